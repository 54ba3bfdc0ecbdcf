"""Generation output to a metric table, metrics.json and TREC files; or new queries on an old checkpoint.

    python -m cart_fairseq.evaluate out/generate-test.txt --data data-bin --trec-run run.trec --json metrics.json
    python -m cart_fairseq.evaluate --queries new.jsonl --data data-bin --path checkpoint_best.pt
    python -m cart_fairseq.evaluate out.txt --queries new.jsonl --data data-bin   # out.txt by fairseq-interactive

The numbers are exact counts over all queries: one that is missing from the output is an error, not a smaller sample.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.files import run_script, write_json
from cart_fairseq.measuring.metrics import RECALL_CUTOFFS
from cart_fairseq.measuring.results import (
    Query,
    Ranking,
    first_outside,
    measure,
    metric_table,
    new_queries,
    read_generation,
    subset_queries,
    subsets_of,
)
from cart_fairseq.measuring.trec import write_qrels, write_run
from cart_fairseq.network.precision import PRECISIONS
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.generator import DEFAULT_SCORING, SCORINGS

DEPTH = max(RECALL_CUTOFFS)


def subset_of_file(path: str | Path, data: DataBin) -> str:
    """The subset that `generate-<subset>….txt` is about.

    Raises:
        ValueError: the name begins with no subset of the data-bin.
    """
    name = Path(path).name
    known = [subset for subset in subsets_of(data) if name.startswith(f"generate-{subset}")]
    if not known:
        raise ValueError(
            f"{path}: the name does not tell the subset (as generate-test.txt does); name it with --subset"
        )
    return max(known, key=len)


def candidate_set(data: DataBin, name: str) -> np.ndarray:
    """Rows (C,) int64, sorted, of a candidate set of the data-bin.

    Raises:
        ValueError: there is no set of this name.
    """
    rows = data.candidates(name)
    return np.arange(len(data.bundle), dtype=np.int64) if rows is None else rows


def set_of_splits(splits: set[str | None], path: str) -> str:
    """The one candidate set in which queries of these splits compete.

    Items without a split compete everywhere; training items only in the whole catalogue.

    Raises:
        ValueError: the queries belong to several splits.
    """
    named = sorted(split for split in splits if split)
    if len(named) > 1:
        raise ValueError(
            f"{path}: its queries belong to the splits {' and '.join(named)}, which are measured apart; choose one "
            "with --subset, or let all items compete with --candidates all"
        )
    return "all" if not named or named[0] == "train" else named[0]


def search(data: DataBin, queries: Sequence[Query], candidates: np.ndarray, args: argparse.Namespace) -> list[Ranking]:
    """Rank items for the queries with a checkpoint, as the command line says; scores are sums of natural logs."""
    chosen = {name: getattr(args, name) for name in ("beam", "precision", "scoring", "dense_weight", "level_discount")}
    retriever = CartRetriever.from_pretrained(args.path, data=data.directory, **chosen)
    competing = None if len(candidates) == len(data.bundle) else data.candidate_set(candidates)
    found = retriever.search([query.text for query in queries], k=DEPTH, candidates=competing)
    return [
        Ranking([hit.row for hit in hits], [hit.score for hit in hits], [query.query_id] * len(hits))
        for query, hits in zip(queries, found, strict=True)
    ]


def evaluate(args: argparse.Namespace, data: DataBin) -> tuple[dict[str, Any], list[Query], list[Ranking]]:
    """Measure what the command line asks for.

    Returns:
        The object for --json, the queries, and what was retrieved for each.
    """
    wanted = args.candidates
    if args.queries:
        queries, splits = new_queries(args.queries, data, args.subset)
        # fairseq-interactive always searches the whole catalogue
        wanted = wanted or ("split" if args.path else "all")
        name = set_of_splits(splits, args.queries) if wanted == "split" else wanted
    else:
        subset = args.subset or subset_of_file(args.generation, data)
        queries = subset_queries(data, subset)
        own_set = "all" if subset == "train" else subset
        name = own_set if wanted in (None, "split") else wanted
    candidates = candidate_set(data, name)
    competing = set(candidates.tolist())
    for query in queries:
        if query.item_row not in competing:
            raise ValueError(
                f"query {query.query_id!r} asks for item {data.bundle.item_ids[query.item_row]!r}, which is not in the "
                f"candidate set {name!r} and so cannot be found; choose another set with --candidates"
            )
    if args.path:
        rankings = search(data, queries, candidates, args)
    else:
        rankings = read_generation(args.generation, data, queries)
        outside = first_outside(rankings, competing)
        if outside and wanted is None:
            name, candidates = "all", candidate_set(data, "all")
        elif outside:
            raise ValueError(
                f"{outside}: the item is not in the candidate set {name!r}, so more items competed; "
                "leave --candidates out"
            )
    longest = max(len(ranking.rows) for ranking in rankings)
    if longest < min(DEPTH, len(candidates)):
        print(
            f"warning: at most {longest} hypotheses a query, so recall beyond {longest} is too low; "
            f"generate with --nbest {DEPTH} and a beam at least as wide",
            file=sys.stderr,
        )
    result = {
        **{metric: round(value, 4) for metric, value in measure(queries, rankings).items()},
        "queries": len(queries),
        "candidates": len(candidates),
        "candidate_set": name,
        "index_captions": data.manifest["index_captions"],
    }
    return result, queries, rankings


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cart_fairseq.evaluate",
        description="Measure retrieval: from generation output, or by searching new queries with a checkpoint.",
    )
    parser.add_argument(
        "generation", nargs="?", help="output of fairseq-generate, or of fairseq-interactive with --queries"
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="the data-bin")
    parser.add_argument("--subset", help="subset that was generated; told by the name generate-SUBSET.txt unless given")
    parser.add_argument(
        "--queries",
        metavar="FILE",
        help="new queries: rows like those of captions.jsonl, with the role query or none",
    )
    parser.add_argument("--path", metavar="CKPT", help="search --queries with this checkpoint, or ensemble a.pt:b.pt")
    parser.add_argument(
        "--beam", type=int, help="beam width with --path (30, and 200 where a dense head orders the beam)"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="computed in with --path (float32)")
    parser.add_argument("--scoring", choices=SCORINGS, default=DEFAULT_SCORING, help="with --path (%(default)s)")
    parser.add_argument(
        "--dense-weight",
        type=float,
        help="of the dense score with --path, where the model has a dense head; 0: none (the model's own)",
    )
    parser.add_argument(
        "--level-discount",
        type=float,
        help="with --path: what each symbol of an identifier counts of the one before it, up to 1 (the model's own)",
    )
    parser.add_argument(
        "--candidates",
        metavar="all|split|NAME",
        help="items that competed, or compete: the catalogue, those of the queries' split, or a named set "
        "(default: split; with a generation file, all if it holds an item outside the split)",
    )
    parser.add_argument("--trec-run", metavar="FILE", help="write a TREC run here")
    parser.add_argument("--qrels", metavar="FILE", help="write TREC relevance judgements here")
    parser.add_argument("--json", metavar="FILE", help="write the metrics here")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the files asked for.

    Raises:
        ValueError: an input is not what it should be; the message says what and where.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.path and not args.queries:
        parser.error("--path searches the queries of a file; name it with --queries")
    if bool(args.generation) == bool(args.path):
        parser.error("give either a generation file or --queries with --path")
    if args.beam is not None and args.beam < 1:
        parser.error(f"--beam is {args.beam}; it must be at least 1")
    data = DataBin(args.data)
    result, queries, rankings = evaluate(args, data)
    item_ids = data.bundle.item_ids
    if args.trec_run:
        write_run(
            args.trec_run,
            (
                (query.query_id, [item_ids[row] for row in ranking.rows], ranking.scores)
                for query, ranking in zip(queries, rankings, strict=True)
            ),
        )
    if args.qrels:
        write_qrels(args.qrels, ((query.query_id, item_ids[query.item_row]) for query in queries))
    if args.json:
        write_json(args.json, result)
    print(metric_table(result))


if __name__ == "__main__":
    run_script(main)
