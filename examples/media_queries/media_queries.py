"""Measure queries that are not one text: by item, by embedding, and by a part of a caption with an embedding.

    media_queries.py RUN --json FILE [--labels FIELD]

RUN is OUT of a run with a dense head. All items compete. Three things are measured:

- An item is asked for by its own embedding plus noise of a tenth of its length.
- An item is asked for by the first half of the words of a valid caption, by its embedding plus much stronger noise, so
  that other items come nearer, and by both together.
- The ten items that are most like an item are compared with the ten nearest by the cosine of the embeddings from before
  any join. With ``--labels``, the share of the ten that have a label in common with the item is measured for both.
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
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.queries.query import Query
from cart_fairseq.retriever import CartRetriever

DEPTH = 10
NOISE = 0.1
"""Length of the noise of the first measurement, relative to the embedding's."""
STRONG = (4.0, 6.0, 8.0)
"""Likewise of the second."""
WEIGHTS = (0.5, 1.0, 2.0)
"""Weights of the embedding beside half of a caption, whose weight is 1."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="media_queries.py", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("run", type=Path, help="OUT of a run with a dense head")
    result.add_argument("--queries", type=int, default=1000, help="number of queries of each measurement (%(default)s)")
    result.add_argument("--labels", metavar="FIELD", help="field of items.jsonl with an item's labels")
    result.add_argument("--seed", type=int, default=1, help="of the queries and the noise (%(default)s)")
    result.add_argument("--json", type=Path, help="file for the figures")
    return result


def noisy(embeddings: NDArray[np.float32], length: float, draw: np.random.Generator) -> NDArray[np.float32]:
    """Embeddings (n, E) of length 1 plus noise of a length, in directions that are drawn evenly."""
    noise = draw.standard_normal(embeddings.shape)
    return (embeddings + length * noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)


def half(text: str) -> str:
    """The first half of a text's words, at least one.

    >>> half("a dog runs on the beach")
    'a dog runs'
    """
    words = text.split()
    return " ".join(words[: max(1, len(words) // 2)])


def figures(retriever: CartRetriever, queries: Sequence[Query], rows: NDArray[np.int64]) -> dict[str, float]:
    """Recall and MRR in percent of the items of these rows, one for each query."""
    found = np.full((len(queries), DEPTH), -1)
    for number, hits in enumerate(retriever.search(queries, DEPTH)):
        found[number, : len(hits)] = [hit.row for hit in hits]
    return metrics_from_counts(metric_counts(ranks_of(torch.from_numpy(found), torch.from_numpy(rows))))


def by_caption_and_embedding(retriever: CartRetriever, count: int, draw: np.random.Generator) -> list[dict[str, Any]]:
    """The second measurement: a row for each strength of noise and kind of query."""
    asked = retriever.data.queries("valid", ("text", "item_row")).to_pylist()
    asked = [asked[int(number)] for number in draw.permutation(len(asked))[:count]]
    rows = np.array([each["item_row"] for each in asked])
    texts = [half(each["text"]) for each in asked]
    results = [{"query": "half of a caption", **figures(retriever, [Query(text=text) for text in texts], rows)}]
    originals = embeddings_of(retriever, rows)
    for length in STRONG:
        vectors = noisy(originals, length, draw)
        alone = [Query(embedding=vector) for vector in vectors]
        results.append({"query": "embedding", "noise": length, **figures(retriever, alone, rows)})
        for weight in WEIGHTS:
            pairs = zip(texts, vectors, strict=True)
            both = [Query(text=text, embedding=each, weights={"embedding": weight}) for text, each in pairs]
            row = {"query": "both", "noise": length, "weight": weight}
            results.append({**row, **figures(retriever, both, rows)})
    return results


def embeddings_of(retriever: CartRetriever, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Embeddings of items from before any join, of length 1: (n, E).

    Raises:
        ValueError: the data-bin has none.
    """
    items = retriever.data.dense_items
    if items is None or not items.original_dim:
        raise ValueError(f"{retriever.data.directory}: no embeddings from before a join; join and binarise again")
    return items.originals(rows).numpy()


def more_like_this(retriever: CartRetriever, rows: NDArray[np.int64], labels: str | None) -> dict[str, float]:
    """The third measurement, shares from 0 to 1."""
    bundle = retriever.data.bundle
    every, kept = embeddings_of(retriever, bundle.kept), bundle.kept
    answers = retriever.search([Query(item_id=bundle.item_id(int(row))) for row in rows], DEPTH)
    same, of_hits, of_cosines = [], [], []
    for row, hits in zip(rows.tolist(), answers, strict=True):
        cosines = every @ embeddings_of(retriever, np.array([row]))[0]
        cosines[kept == row] = -np.inf
        nearest = kept[np.argsort(-cosines)[:DEPTH]].tolist()
        found = [hit.row for hit in hits]
        same.append(len({*found} & {*nearest}) / DEPTH)
        if labels is not None:
            own = {*bundle.record(row)[labels]}
            shared = [[bool(own & {*bundle.record(other)[labels]}) for other in ten] for ten in (found, nearest)]
            of_hits.append(np.mean(shared[0]))
            of_cosines.append(np.mean(shared[1]))
    result = {"overlap": float(np.mean(same))}
    if labels is not None:
        result |= {"label_precision": float(np.mean(of_hits)), "label_precision_of_cosine": float(np.mean(of_cosines))}
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    checkpoint = checkpoint_of(args.run / "checkpoints")
    retriever = CartRetriever.from_pretrained(checkpoint, args.run / "data-bin")
    draw = np.random.default_rng(args.seed)
    rows = draw.permutation(retriever.data.bundle.kept)[: args.queries]
    own = [Query(embedding=vector) for vector in noisy(embeddings_of(retriever, rows), NOISE, draw)]
    record = {
        **provenance(vars(args), "json", "run"),
        "noise": NOISE,
        "media_positions": getattr(retriever.models[0].reader, "positions", 0),
        "own_embedding": figures(retriever, own, rows),
        "caption_and_embedding": by_caption_and_embedding(retriever, args.queries, draw),
        "more_like_this": more_like_this(retriever, rows, args.labels),
    }
    print(f"own embedding, noise {NOISE}: R@1 {record['own_embedding']['recall_at_1']:.1f}")
    for row in record["caption_and_embedding"]:
        noise = "".join(f", {name} {row[name]:g}" for name in ("noise", "weight") if name in row)
        print(f"{row['query']}{noise}: R@1 {row['recall_at_1']:.1f}, R@10 {row['recall_at_10']:.1f}")
    print(", ".join(f"{name} {value:.3f}" for name, value in record["more_like_this"].items()))
    if args.json:
        write_json(args.json, record)


if __name__ == "__main__":
    run_script(main)
