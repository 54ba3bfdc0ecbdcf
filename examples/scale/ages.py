"""What the scores of items that came after training do to a search for older ones.

    PYTHONPATH=. python examples/scale/ages.py checkpoint_best.pt --data WORK/data-bin.100000 --json ages.json

WORK is that of scale.py, whose queries are asked; their items are older than the synthetic ones. Such an item gets the
expected identifier scores (`cart_fairseq.search.dense.younger`). Beside this stand: its own identifier scores, as if the
model had been trained on it; the dense scores alone; and the same without priors.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from distractors import valid_queries
from provenance import provenance

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.files import refuse_unwritable, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.retriever import CartRetriever

DEPTH, BATCH = 10, 100
DENSE_ALONE = 1000.0
"""A weight of the dense scores beside which identifier scores change no rank."""


class Setting(NamedTuple):
    """A way to search.

    Attributes:
        known: whether all items count as known to the model.
        dense_weight, prior_share: None for the model's own.
    """

    known: bool = False
    dense_weight: float | None = None
    prior_share: float | None = None


SETTINGS = {
    "expected identifier scores": Setting(),
    "own identifier scores": Setting(known=True),
    "dense scores alone": Setting(dense_weight=DENSE_ALONE),
    "expected identifier scores, no priors": Setting(prior_share=0.0),
    "dense scores alone, no priors": Setting(dense_weight=DENSE_ALONE, prior_share=0.0),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="ages.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("checkpoint", help="checkpoint_best.pt, of a model with a dense head")
    parser.add_argument("--data", required=True, metavar="DIR", help="a data-bin to which items were added")
    parser.add_argument("--queries", type=int, default=500, help="number of queries (default: %(default)s)")
    parser.add_argument("--beam", type=int, default=10, help="beam width (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args(argv)


def measure(retriever: CartRetriever, texts: Sequence[str], wanted: torch.Tensor, name: str) -> dict[str, Any]:
    """Search for all queries: metrics in percent, and how many of the first ten items are younger."""
    found = np.full((len(texts), DEPTH), -1)
    for at in track(range(0, len(texts), BATCH), name, "batches"):
        for place, hits in enumerate(retriever.search([*texts[at : at + BATCH]], DEPTH), start=at):
            found[place, : len(hits)] = [hit.row for hit in hits]
    younger = (found >= retriever.data.bundle.items_at(0)).sum(axis=1).mean()
    metrics = metrics_from_counts(metric_counts(ranks_of(torch.from_numpy(found), wanted)))
    return {"scores": name, **metrics, "younger_of_ten": round(float(younger), 2)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each setting.

    Raises:
        ValueError: a number is below 1.
    """
    args = parse(argv)
    for name in ("queries", "beam"):
        check_count(f"--{name}", getattr(args, name))
    refuse_unwritable(args.json)
    results = []
    for name, setting in SETTINGS.items():
        retriever = CartRetriever.from_pretrained(
            args.checkpoint,
            args.data,
            args.beam,
            precision="float32",
            dense_weight=setting.dense_weight,
            prior_share=setting.prior_share,
        )
        if setting.known:
            for model in retriever.models:
                model.revision, model.history = retriever.data.bundle.revision, retriever.data.bundle.history
        texts, wanted = valid_queries(retriever.data, args.queries)
        results.append(measure(retriever, texts, wanted, name))
        print(", ".join(str(value) for value in results[-1].values()), flush=True)
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json", "checkpoint", "data"), "results": results})


if __name__ == "__main__":
    run_script(main)
