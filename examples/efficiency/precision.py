"""Measure the effect of scoring modes and precisions on the ranking and speed of a trained checkpoint.

    python examples/efficiency/precision.py checkpoint_best.pt --data data-bin --subset valid

For every mode the table has recall and MRR, end-to-end queries per second, and the share of queries whose top 10
differs from that of float32 with the same scoring, as a set and as a ranking. The modes alternate after each batch.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import torch
from provenance import provenance

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.base.settings import PRECISIONS, SCORINGS
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.measuring.results import Ranking, measure, subset_queries
from cart_fairseq.retriever import CartRetriever

DEPTH = 10


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="precision.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("checkpoint", help="checkpoint_best.pt, or an ensemble a.pt:b.pt")
    parser.add_argument("--data", required=True, metavar="DIR", help="the data-bin")
    parser.add_argument("--subset", default="valid", help="whose queries are searched (valid)")
    parser.add_argument("--candidates", default="valid", metavar="NAME", help="candidate set (valid)")
    parser.add_argument("--scorings", nargs="+", choices=SCORINGS, default=list(SCORINGS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["float32", "bf16", "int8"])
    parser.add_argument("--beam", type=int, default=30, help="beam width (30)")
    parser.add_argument("--batch", type=int, default=250, help="queries per batch (250)")
    parser.add_argument("--queries", type=int, help="use only the first N queries")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    data = DataBin(args.data)
    queries = subset_queries(data, args.subset)[: args.queries]
    modes = [(scoring, precision) for scoring in args.scorings for precision in args.precisions]
    retrievers = {
        (scoring, precision): CartRetriever.from_pretrained(
            args.checkpoint, args.data, args.beam, precision=precision, scoring=scoring
        )
        for scoring, precision in modes
    }
    found: dict[tuple[str, str], list[list[int]]] = {mode: [] for mode in modes}
    seconds = dict.fromkeys(modes, 0.0)
    for start in track(range(0, len(queries), args.batch), "searching", "batches"):
        texts = [query.text for query in queries[start : start + args.batch]]
        for mode, retriever in retrievers.items():
            began = time.perf_counter()
            hits = retriever.search(texts, k=DEPTH, candidates=args.candidates)
            seconds[mode] += time.perf_counter() - began
            found[mode] += [[hit.row for hit in each] for each in hits]
    result = []
    for scoring, precision in modes:
        rankings = found[scoring, precision]
        reference = found[scoring, args.precisions[0]]
        result.append(
            {
                "scoring": scoring,
                "precision": precision,
                **measure(queries, [Ranking(rows) for rows in rankings]),
                "queries_per_second": len(queries) / seconds[scoring, precision],
                "top10_set_changed": share(set(a) != set(b) for a, b in zip(rankings, reference, strict=True)),
                "top10_order_changed": share(a != b for a, b in zip(rankings, reference, strict=True)),
            }
        )
    print(f"{len(queries)} queries, candidates {args.candidates}, beam {args.beam}, {torch.get_num_threads()} threads")
    names = " ".join(f"{name:>12}" for name in METRIC_NAMES)
    print(f"{'scoring':<13} {'precision':<9} {names} {'queries/s':>10} {'top 10 set':>11} {'order':>8}")
    for row in result:
        metrics = " ".join(f"{row[name]:>12.2f}" for name in METRIC_NAMES)
        print(
            f"{row['scoring']:<13} {row['precision']:<9} {metrics} {row['queries_per_second']:>10.1f} "
            f"{row['top10_set_changed']:>10.1f}% {row['top10_order_changed']:>7.1f}%"
        )
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json"), "modes": result})


def share(changed: Iterable[bool]) -> float:
    """Return the percentage of true values."""
    values = list(changed)
    return 100 * sum(values) / len(values)


if __name__ == "__main__":
    run_script(main)
