"""Find how to order what a beam found, on the valid queries, and keep it in the checkpoint.

    python -m cart_fairseq.tune --data data-bin --path checkpoints/checkpoint_best.pt

First what the score of each symbol of an identifier counts of that of the one before it, by the identifiers alone, then,
where the model has a dense head, the weight of its score. One search serves all: the beam is the same, only its order
differs. Searches with the checkpoint use both from then on, unless they are told otherwise.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from cart_fairseq.files import replacing, run_script, write_json
from cart_fairseq.measuring.metrics import METRIC_NAMES, metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.progress import Progress
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.generator import DEFAULT_SCORING, SCORINGS
from cart_fairseq.search.result import discounted

DISCOUNTS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0)
CRITERION = METRIC_NAMES[-1]
DISCOUNT_STATE, WEIGHT_STATE = "level_discount", "dense.weight"
Figures = dict[float, dict[str, float]]


class Found(NamedTuple):
    """What one search found for Q queries, in the order of the plain sum of symbols' scores.

    Attributes:
        rows: (Q, K) int64 item rows, and targets: (Q,) int64 those that are looked for.
        token_scores: (Q, K, J) float32, natural-log probabilities.
        dense: (Q, K) float32, the dense head's score at weight 1; 0 where there is none.
    """

    rows: Tensor
    targets: Tensor
    token_scores: Tensor
    dense: Tensor

    def figures(self, discount: float, weight: float = 0.0) -> dict[str, float]:
        """Metrics in percent, with the beam in the order of these settings."""
        scores = discounted(self.token_scores, discount) + weight * self.dense
        order = scores.argsort(dim=1, descending=True, stable=True)
        return metrics_from_counts(metric_counts(ranks_of(self.rows.gather(1, order), self.targets)))


def search(retriever: CartRetriever, subset: str, candidates: str) -> Found:
    """Search for the queries of a subset.

    Args:
        retriever: of a model.
        subset: whose queries are asked.
        candidates: name of the candidate set that competes.

    Raises:
        ValueError: the data-bin has no such subset.
    """
    task = retriever.task
    path = task.data.directory / f"queries.{subset}.parquet"
    if not path.is_file():
        raise ValueError(f"{task.data.directory}: no {subset} queries to tune on; give captions the role 'query'")
    wanted = pq.read_table(path, columns=["item_row"])["item_row"].to_numpy().astype(np.int64)
    task.load_dataset(subset)
    dataset = task.datasets[subset]
    scoring, beam = retriever.scoring, retriever.beam
    generator = task.search_with(retriever.models, beam, scoring=scoring, dense_weight=1.0, level_discount=1.0)
    parts = []
    with Progress(len(dataset), f"searching {subset}", "queries") as progress:
        for queries, net_input in retriever.batches(dataset):
            found = generator.search(net_input, *task.data.source(candidates)).cpu()
            alone = found.token_scores.sum(2)
            dense = torch.where(found.scores.isfinite(), found.scores - alone, 0.0)
            plain = alone.argsort(dim=1, descending=True, stable=True)
            deep = plain.unsqueeze(2).expand(-1, -1, found.tokens.size(2))
            targets = torch.from_numpy(wanted[queries.numpy()])
            scores = found.token_scores.gather(1, deep)
            parts.append(Found(found.rows.gather(1, plain), targets, scores, dense.gather(1, plain)))
            progress.update(len(queries))
    return Found(*(torch.cat(column) for column in zip(*parts, strict=True)))


def best_discount(figures: Mapping[float, Mapping[str, float]]) -> float:
    """The discount with the best MRR@10; of equal ones that nearest to 1."""
    return max(sorted(figures, reverse=True), key=lambda discount: figures[discount][CRITERION])


def best_weight(figures: Mapping[float, Mapping[str, float]]) -> float:
    """The weight with the best MRR@10; of equal ones the smallest."""
    return max(sorted(figures), key=lambda weight: figures[weight][CRITERION])


def keep(path: Path, values: Mapping[str, float]) -> None:
    """Write values into a checkpoint, which stays whole if this is killed."""
    state: dict[str, Any] = torch.load(path, map_location="cpu")
    state["model"] |= {name: torch.tensor(value) for name, value in values.items()}
    with replacing(path) as new:
        torch.save(state, new)


def table(head: str, figures: Mapping[float, Mapping[str, float]], best: float) -> str:
    """A line a setting, the best one marked."""
    lines = ["".join([f"{head:>9}", *(f"{name:>15}" for name in METRIC_NAMES)])]
    for setting, row in figures.items():
        mark = "*" if setting == best else " "
        lines.append("".join([f"{mark}{setting:>8g}", *(f"{row[name]:>15.1f}" for name in METRIC_NAMES)]))
    return "\n".join(lines)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cart_fairseq.tune",
        description="Find discount and dense weight on the valid queries, and keep them in the checkpoint.",
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="the data-bin")
    add("--path", type=Path, required=True, metavar="CKPT", help="the checkpoint")
    add("--candidates", choices=("split", "all"), default="split", help="items that compete (split)")
    add("--beam", type=int, help="beam width (30, and 200 where a dense head orders the beam)")
    add("--scoring", choices=SCORINGS, default=DEFAULT_SCORING, help="how the search scores symbols (%(default)s)")
    discounts = "discounts of later symbols to compare (from 1, none, to 0.6)"
    add("--discounts", type=float, nargs="+", default=DISCOUNTS, metavar="G", help=discounts)
    weights = "weights to compare (from 0, the identifiers alone, to 30)"
    add("--weights", type=float, nargs="+", default=WEIGHTS, metavar="W", help=weights)
    add("--dry-run", action="store_true", help="show the tables and leave the checkpoint alone")
    add("--json", type=Path, metavar="FILE", help="write settings and figures here")
    args = parser.parse_args(argv)
    if (args.beam is not None and args.beam < 1) or min(args.weights) < 0:
        parser.error(
            f"--beam is {args.beam}, at least 1 is needed; the least weight is {min(args.weights)}, 0 is allowed"
        )
    if not 0 < min(args.discounts) <= max(args.discounts) <= 1:
        parser.error(f"--discounts {' '.join(map(str, args.discounts))}: each must be above 0 and at most 1")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parse(argv)
    retriever = CartRetriever.from_pretrained(args.path, data=args.data, beam=args.beam, scoring=args.scoring)
    found = search(retriever, "valid", "valid" if args.candidates == "split" else "all")
    discounts = {discount: found.figures(discount) for discount in args.discounts}
    discount = best_discount(discounts)
    kept = {DISCOUNT_STATE: discount}
    print(table("discount", discounts, discount))
    weights, weight = {0.0: discounts[discount]}, 0.0
    if all(model.dense is not None for model in retriever.models):
        weights = {weight: found.figures(discount, weight) for weight in args.weights}
        weight = kept[WEIGHT_STATE] = best_weight(weights)
        print("\n" + table("weight", weights, weight))
    if not args.dry_run:
        keep(args.path, kept)
        print(f"{args.path}: searches with it use {', '.join(f'{name} {value:g}' for name, value in kept.items())} now")
    if args.json:
        settings = {"best": weight, "discount": discount, "beam": retriever.beam, "candidates": args.candidates}
        write_json(args.json, settings | {"weights": rows("weight", weights), "discounts": rows("discount", discounts)})


def rows(head: str, figures: Mapping[float, Mapping[str, float]]) -> list[dict[str, float]]:
    """Figures as they stand in JSON."""
    return [{head: setting, **row} for setting, row in figures.items()]


if __name__ == "__main__":
    run_script(main)
