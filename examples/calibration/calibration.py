"""Measure the probabilities that a tuned checkpoint gives to hits, on queries that did not calibrate them.

    calibration.py CHECKPOINT --data DATA-BIN --others CAPTIONS --json FILE

- Each query is asked with the wanted item among the candidates, and with it taken away: what the search found, without the
  item. For some queries the item is really taken away from the candidates, which shows whether that is the same.
- Queries of another data set (``--others``) have no fitting item.
- For several values of ``at_least``: how many queries keep their item, and how many others get no answer.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

from provenance import provenance

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.files import refuse_unwritable, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.measuring.presence import Numbers, auroc
from cart_fairseq.queries.hit import Hit
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.calibration import HITS
from cart_fairseq.steps.calibrating import Outcome, calibrating_rows, outcome, scores_without

LEAST = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
"""Values of ``at_least`` that are compared."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="calibration.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("checkpoint", help="tuned checkpoint, or an ensemble a.pt:b.pt")
    parser.add_argument("--data", required=True, metavar="DIR", help="the data-bin")
    parser.add_argument(
        "--others",
        type=Path,
        required=True,
        metavar="FILE",
        help="captions.jsonl of another data set; its queries are asked",
    )
    parser.add_argument("--subset", default="valid", help="whose queries are asked (default: %(default)s)")
    parser.add_argument("--candidates", nargs="+", default=["valid", "all"], metavar="NAME", help="candidate sets")
    parser.add_argument("--queries", type=int, default=2000, metavar="N", help="most queries (default: %(default)s)")
    parser.add_argument("--taken", type=int, default=200, metavar="N", help="queries whose item is really taken away")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of queries (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the figures and write the record."""
    args = parse(argv)
    check_count("--queries", args.queries)
    check_count("--taken", args.taken)
    refuse_unwritable(args.json)
    retriever = CartRetriever.from_pretrained(args.checkpoint, args.data, precision="float32")
    if retriever.calibration is None:
        raise ValueError(f"{args.checkpoint}: is not calibrated; run python -m cart_fairseq.tune")
    draw = np.random.default_rng(args.seed)
    texts, targets = asked(retriever, args.subset, args.queries, draw)
    rows = [row["text"] for row in read_jsonl(args.others) if row.get("role") in (None, "query")]
    others = [rows[place] for place in draw.permutation(len(rows))[: args.queries]]
    results = {name: measure(retriever, name, texts, targets, others, args.taken) for name in args.candidates}
    for name, result in results.items():
        print(
            f"{name}, {result['candidates']:,} candidates, {len(texts):,} queries, {len(others):,} of another data set"
        )
        for key, value in result.items():
            if isinstance(value, float):
                print(f"  {key:<28}{value:.4f}")
        for row in result["at_least"]:
            print("  " + "  ".join(f"{key} {value:.3g}" for key, value in row.items()))
    if args.json:
        record = provenance(vars(args), "checkpoint", "data", "others", "json")
        counts = {"queries": len(texts), "other_queries": len(others)}
        facts = {**record, **counts, "calibration": retriever.calibration._asdict()}
        write_json(args.json, {**facts, "results": results})


def asked(retriever: CartRetriever, subset: str, most: int, draw: np.random.Generator) -> tuple[list[str], list[int]]:
    """Queries of a subset that did not calibrate the model, and the rows of their items."""
    table = retriever.data.queries(subset, ("text", "item_row")).to_pydict()
    used = calibrating_rows(retriever.data, table["item_row"])
    pairs = [pair for pair in zip(table["text"], table["item_row"], strict=True) if pair[1] not in used]
    chosen = [pairs[place] for place in draw.permutation(len(pairs))[:most]]
    return [text for text, _ in chosen], [row for _, row in chosen]


def measure(
    retriever: CartRetriever, name: str, texts: Sequence[str], targets: Sequence[int], others: Sequence[str], taken: int
) -> dict[str, Any]:
    """Figures for one candidate set.

    Args:
        retriever: a calibrated model.
        name: of the candidate set.
        texts, targets: queries, and the rows of their items.
        others: queries without an item.
        taken: number of queries whose item is really taken away.
    """
    calibration = retriever.calibration
    assert calibration is not None
    candidates = retriever.candidate_set(name)
    size = len(retriever.data.trie if candidates is None else candidates)
    found = retriever.search(texts, k=HITS, candidates=candidates)
    rows, scores = [[hit.row for hit in hits] for hits in found], [[hit.score for hit in hits] for hits in found]
    both = outcome(calibration, rows, scores, targets, size, scores_without(retriever, texts, targets, candidates))
    strange = padded(retriever.search(others, k=HITS, candidates=candidates))
    away = np.array(
        [sum(each) for each in probabilities(really_taken(retriever, name, texts[:taken], targets[:taken]))]
    )
    return {
        "candidates": size,
        **both.figures(),
        "recall_at_1": float(100 * both.right[:, 0].mean()),
        "auroc_of_best_hit": auroc(both.present[:, 0], both.absent[:, 0]),
        "others_auroc": auroc(both.present.sum(1), strange.sum(1)),
        "others_auroc_of_best_hit": auroc(both.present[:, 0], strange[:, 0]),
        "taken_difference": float(np.abs(away - both.absent.sum(1)[:taken]).max()),
        "at_least": [at_least(both, strange, least) for least in LEAST],
    }


def really_taken(retriever: CartRetriever, name: str, texts: Sequence[str], targets: Sequence[int]) -> list[list[Hit]]:
    """Search for each query among the candidates without its item."""
    rows = retriever.data.candidates(name)
    rows = np.arange(len(retriever.data.bundle)) if rows is None else rows
    sets = [retriever.data.candidate_set(rows[rows != target]) for target in targets]
    return retriever.search(texts, k=HITS, candidates=sets)


def at_least(both: Outcome, strange: Numbers, least: float) -> dict[str, float]:
    """What a least probability does, in percent of the queries.

    Returns:
        ``right_kept``: the wanted item is there and is kept; ``answered``: it is there, and some hit is kept;
        ``right_of_first``: of the first hits that are kept with the item there, those that are right; ``silent``: it was
        taken away, and no hit is kept; ``others_silent``: the query is of another data set, and no hit is kept.
    """
    first = both.present[:, 0] >= least
    return {
        "value": least,
        "right_kept": float(100 * (both.right & (both.present >= least)).any(1).mean()),
        "answered": float(100 * first.mean()),
        "right_of_first": float(100 * both.right[first, 0].mean()) if first.any() else 0.0,
        "silent": float(100 * (both.absent[:, 0] < least).mean()),
        "others_silent": float(100 * (strange[:, 0] < least).mean()),
    }


def probabilities(found: Sequence[Sequence[Hit]]) -> list[list[float]]:
    """The probabilities of the hits of each query."""
    return [[hit.probability or 0.0 for hit in hits] for hits in found]


def padded(found: Sequence[Sequence[Hit]]) -> Numbers:
    """The probabilities of the hits of each query, padded with 0: (Q, K) float64."""
    rows = probabilities(found)
    depth = max(len(row) for row in rows)
    return np.array([[*row, *[0.0] * (depth - len(row))] for row in rows])


if __name__ == "__main__":
    run_script(main)
