"""Find the weight of a dense head's score on the valid queries, and keep it in the checkpoint.

    python -m cart_fairseq.tune --data data-bin --path checkpoints/checkpoint_best.pt

One search serves all weights: the beam is the same, only its order differs. Searches with the checkpoint use the weight
from then on, unless they are told another.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor
from tqdm import tqdm

from cart_fairseq.files import replacing, run_script, write_json
from cart_fairseq.metrics import METRIC_NAMES, metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.retriever import RERANKED_BEAM, CartRetriever
from cart_fairseq.sequence_generator import DEFAULT_SCORING, SCORINGS

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0)
CRITERION = METRIC_NAMES[-1]
STATE = "dense.weight"


def figures_by_weight(
    retriever: CartRetriever, subset: str, candidates: str, beam: int, weights: Sequence[float]
) -> dict[float, dict[str, float]]:
    """What each weight reaches on the queries of a subset, in percent.

    Args:
        retriever: of models with a dense head.
        subset: whose queries are asked.
        candidates: name of the candidate set that competes.
        beam: width of the one search.

    Raises:
        ValueError: the data-bin has no such subset, or a model has no dense head.
    """
    task = retriever.task
    if any(model.dense is None for model in retriever.models):
        raise ValueError("the model has no dense head, so there is nothing to weigh; train one with --dense-dim")
    table = task.data.directory / f"queries.{subset}.parquet"
    if not table.is_file():
        raise ValueError(f"{task.data.directory}: no {subset} queries to tune on; give captions the role 'query'")
    wanted = pq.read_table(table, columns=["item_row"])["item_row"].to_numpy()
    task.load_dataset(subset)
    dataset = task.datasets[subset]
    generator = task.search_with(retriever.models, beam, scoring=retriever.scoring, dense_weight=1.0)
    ranks: dict[float, list[Tensor]] = {weight: [] for weight in weights}
    bar = tqdm(total=len(dataset), desc=f"searching {subset}", unit="query", disable=None)
    for queries, net_input in retriever.batches(dataset):
        found = generator.search(net_input, *task.data.source(candidates)).cpu()
        targets = torch.from_numpy(wanted[queries.numpy()].astype(np.int64))
        generative = found.token_scores.sum(2)
        dense = torch.where(found.scores.isfinite(), found.scores - generative, 0.0)
        for weight, each in ranks.items():
            best = (generative + weight * dense).argsort(dim=1, descending=True, stable=True)
            each.append(ranks_of(found.rows.gather(1, best), targets))
        bar.update(len(queries))
    bar.close()
    return {weight: metrics_from_counts(metric_counts(torch.cat(each))) for weight, each in ranks.items()}


def best_weight(figures: Mapping[float, Mapping[str, float]]) -> float:
    """The weight with the best MRR@10; of equal ones the smallest."""
    return max(sorted(figures), key=lambda weight: figures[weight][CRITERION])


def keep(path: Path, weight: float) -> None:
    """Write the weight into a checkpoint, which stays whole if this is killed."""
    state: dict[str, Any] = torch.load(path, map_location="cpu")
    state["model"][STATE] = torch.tensor(weight)
    with replacing(path) as new:
        torch.save(state, new)


def table(figures: Mapping[float, Mapping[str, float]], best: float) -> str:
    """A line a weight, the best one marked."""
    lines = ["".join(["  weight", *(f"{name:>15}" for name in METRIC_NAMES)])]
    for weight, row in figures.items():
        mark = "*" if weight == best else " "
        lines.append("".join([f"{mark}{weight:>7g}", *(f"{row[name]:>15.1f}" for name in METRIC_NAMES)]))
    return "\n".join(lines)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cart_fairseq.tune",
        description="Find the weight of the dense score on the valid queries, and keep it in the checkpoint.",
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="the data-bin")
    add("--path", type=Path, required=True, metavar="CKPT", help="checkpoint of a model with a dense head")
    add("--candidates", choices=("split", "all"), default="split", help="items that compete (split)")
    add("--beam", type=int, default=RERANKED_BEAM, help=f"beam width ({RERANKED_BEAM})")
    weights = "weights to compare (from 0, the identifiers alone, to 30)"
    add("--scoring", choices=SCORINGS, default=DEFAULT_SCORING, help="how the search scores symbols (%(default)s)")
    add("--weights", type=float, nargs="+", default=WEIGHTS, metavar="W", help=weights)
    add("--dry-run", action="store_true", help="show the table and leave the checkpoint alone")
    add("--json", type=Path, metavar="FILE", help="write weights and figures here")
    args = parser.parse_args(argv)
    if args.beam < 1 or min(args.weights) < 0:
        parser.error(
            f"--beam is {args.beam}, at least 1 is needed; the least weight is {min(args.weights)}, 0 is allowed"
        )
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parse(argv)
    retriever = CartRetriever.from_pretrained(args.path, data=args.data, scoring=args.scoring)
    candidates = "valid" if args.candidates == "split" else "all"
    figures = figures_by_weight(retriever, "valid", candidates, args.beam, args.weights)
    best = best_weight(figures)
    print(table(figures, best))
    if not args.dry_run:
        keep(args.path, best)
        print(f"{args.path}: searches with it use weight {best:g} now")
    if args.json:
        rows = [{"weight": weight, **row} for weight, row in figures.items()]
        write_json(args.json, {"best": best, "beam": args.beam, "candidates": args.candidates, "weights": rows})


if __name__ == "__main__":
    run_script(main)
