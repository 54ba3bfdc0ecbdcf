"""Whether a GPU finds the items that a processor finds, and how far half precision departs from float32.

A model of the paper's size with random weights searches a random catalogue. Random weights give close scores, so the items
change more easily than with a trained model.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from catalogue import random_cart, random_catalogue, random_queries, task_of
from parts import SEED, Record, arguments, run

from cart_fairseq.base.settings import SCORINGS
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.network.precision import convert
from cart_fairseq.search.generator import IdentifierGenerator
from cart_fairseq.search.result import SearchResult

PRECISIONS = ("float32", "bf16", "fp16")
SIZES = (128,) * 4
TOLERANCE = 1e-4
"""Largest difference of the scores of one item on two devices, in natural-log probability."""
DIFFERENT = 1.0
"""Percent of queries that may differ in float32: where two prefixes tie at the edge of the beam, rounding chooses one."""


def generator(model: Any, end: int, beam: int, scoring: str) -> IdentifierGenerator:
    """A search without named candidate sets."""

    def no_name(name: str) -> Any:
        raise ValueError(f"candidate set {name!r}: random catalogues have none")

    return IdentifierGenerator([model], no_name, end, beam, scoring=scoring)


def compare(found: SearchResult, expected: SearchResult) -> dict[str, float]:
    """Two results (Q, beam) for the same queries, on the CPU.

    Returns:
        In percent of queries: ``same_order`` and ``same_items`` of the whole list, ``same_first``, and ``different``,
        queries with a place whose items differ although their scores differ by more than the tolerance. In percent of places:
        ``overlap``. ``largest_difference``: of the scores of items that both found.
    """
    order = items = first = overlap = different = 0
    largest = 0.0
    for query in range(len(found.rows)):
        mine, other = found.rows[query].tolist(), expected.rows[query].tolist()
        gaps = (found.scores[query] - expected.scores[query]).abs().tolist()
        scores = dict(zip(other, expected.scores[query].tolist(), strict=True))
        order += mine == other
        items += set(mine) == set(other)
        first += mine[0] == other[0]
        overlap += len(set(mine) & set(other))
        # equal scores may change places
        different += any(a != b and gap > TOLERANCE for a, b, gap in zip(mine, other, gaps, strict=True))
        for item, score in zip(mine, found.scores[query].tolist(), strict=True):
            largest = max(largest, abs(score - scores.get(item, score)))
    share = 100 / len(found.rows)
    return {
        "same_order": share * order,
        "same_items": share * items,
        "same_first": share * first,
        "different": share * different,
        "overlap": 100 * overlap / found.rows.numel(),
        "largest_difference": largest,
    }


def measure(
    device: str, items: int, queries: int, beams: tuple[int, ...], done: Callable[..., bool] = lambda **_: False
) -> Iterator[dict[str, Any]]:
    """Each scoring, beam and precision on the device against float32 on a processor, unless ``done`` says it is there."""
    task = task_of(SIZES)
    catalogue = random_catalogue(items, SIZES, SEED)
    tries = [IdentifierTrie.build(catalogue.values, catalogue.sizes, catalogue.offsets) for _ in range(2)]
    net_input = random_queries(queries, 12, SEED)
    there = {name: tensor.to(device) for name, tensor in net_input.items()}
    model, end = random_cart(task, SEED), task.target_dictionary.eos()
    for scoring in SCORINGS:
        for beam in beams:
            missing = [each for each in PRECISIONS if not done(scoring=scoring, beam=beam, precision=each)]
            if not missing:
                continue
            expected = generator(model, end, beam, scoring).search(net_input, tries[0])
            for precision in missing:
                other = convert(copy.deepcopy(model).to(device), precision)
                found = generator(other, end, beam, scoring).search(there, tries[1]).cpu()
                yield {"scoring": scoring, "beam": beam, "precision": precision, **compare(found, expected)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    args = arguments(__doc__, argv)
    torch.set_float32_matmul_precision("highest")
    size: dict[str, Any] = {"items": 100_000, "queries": 500, "beams": (10, 30)}
    if args.small:
        size = {"items": 2_000, "queries": 8, "beams": (5,)}
    record = Record(args, "agreement", {**size, "beams": list(size["beams"]), "tolerance": TOLERANCE, "tf32": False})
    for row in measure(args.device, **size, done=record.has):
        record.add(row)
        print(", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items()))
    wrong = [row for row in record.rows if row["precision"] == "float32" and row["different"] > DIFFERENT]
    record.write(complete=not wrong)
    if wrong:
        raise ValueError(f"float32 on {args.device} finds other items than a processor: {wrong}; see {record.path}")


if __name__ == "__main__":
    run(main)
