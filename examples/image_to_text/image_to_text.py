"""Measure image → text: the captions of an image are asked for with the image, by CART and by the dual tower.

    image_to_text.py DATA CATALOGUE RUN --json FILE

CATALOGUE is what ``captions_as_items.py DATA CATALOGUE`` wrote, RUN is OUT of ``examples/own_data/run.sh CATALOGUE OUT``.
The queries are the images of a split; one that has no captions is left out. A query counts as answered at the rank of the
first of its captions. The dual tower is that of CATALOGUE, searched exactly.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from numpy.typing import NDArray
from plan import checkpoint_of
from provenance import provenance

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts
from cart_fairseq.queries.query import Query
from cart_fairseq.retriever import CartRetriever

DEPTH = 10


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="image_to_text.py", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("data", type=Path, help="items.jsonl of the media")
    result.add_argument("catalogue", type=Path, help="what captions_as_items.py wrote")
    result.add_argument("run", type=Path, help="OUT of examples/own_data/run.sh")
    result.add_argument("--subset", default="valid", help="split of the images (%(default)s)")
    result.add_argument("--json", type=Path, help="file for the figures")
    return result


def ranks(found: Sequence[Sequence[str]], wanted: Sequence[str]) -> torch.Tensor:
    """The rank of the first caption of the wanted medium, from 1, or 0: (Q,) int64.

    >>> ranks([["b", "a"], ["b"]], ["a", "c"]).tolist()
    [2, 0]
    """
    return torch.tensor([1 + [*ten].index(own) if own in ten else 0 for ten, own in zip(found, wanted, strict=True)])


def figures(found: Sequence[Sequence[str]], wanted: Sequence[str]) -> dict[str, float]:
    """Recall and MRR in percent, from the media whose captions were found, best first."""
    return metrics_from_counts(metric_counts(ranks(found, wanted)))


def of_tower(queries: NDArray[np.float32], captions: NDArray[np.float32], owners: Sequence[str]) -> list[list[str]]:
    """The media whose captions (M, D) are nearest to each query (Q, D), both of length 1."""
    best = np.argsort(-(queries @ captions.T), axis=1)[:, :DEPTH]
    return [[owners[place] for place in row] for row in best]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    media = read_jsonl(args.data / "items.jsonl")
    items = read_jsonl(args.catalogue / "items.jsonl")
    captioned = {item["of"] for item in items}
    asked = [row for row, item in enumerate(media) if item.get("split") == args.subset and item["item_id"] in captioned]
    if not asked:
        raise ValueError(
            f"{args.data / 'items.jsonl'}: no captioned item of split {args.subset!r}; give another --subset"
        )
    wanted = [media[row]["item_id"] for row in asked]
    vectors = np.load(args.catalogue / "media.npy")[asked].astype(np.float32)
    captions = np.load(args.catalogue / "embeddings.npy").astype(np.float32)
    retriever = CartRetriever.from_pretrained(checkpoint_of(args.run / "checkpoints"), args.run / "data-bin")
    queries = [Query(embedding=vector) for vector in vectors]
    rows: list[dict[str, Any]] = []
    for name in (args.subset, "all"):
        places = [place for place, item in enumerate(items) if name in ("all", item["split"])]
        owners = [items[place]["of"] for place in places]
        chosen = None if name == "all" else retriever.candidate_set([items[place]["item_id"] for place in places])
        hits = retriever.search(queries, DEPTH, candidates=chosen)
        found = {
            "CART": [[hit.record["of"] for hit in ten] for ten in hits],
            "dual tower": of_tower(vectors, captions[places], owners),
        }
        rows += [{"candidates": len(places), "system": system, **figures(ten, wanted)} for system, ten in found.items()]
    for row in rows:
        print(
            f"{row['candidates']:,} captions, {row['system']}: R@1 {row['recall_at_1']:.1f}, "
            f"R@5 {row['recall_at_5']:.1f}, R@10 {row['recall_at_10']:.1f}"
        )
    if args.json:
        positions = getattr(retriever.models[0].reader, "positions", 0)
        record = {"queries": len(asked), "media_positions": positions, "results": rows}
        write_json(args.json, {**provenance(vars(args), "json", "data", "catalogue", "run"), **record})


if __name__ == "__main__":
    run_script(main)
