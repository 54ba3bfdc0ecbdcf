"""Measures the output of fairseq-generate, or new queries on a checkpoint; writes a table, JSON and TREC files.

python -m cart_fairseq.evaluate out/generate-test.txt --data data-bin --trec-run run.trec --json metrics.json
python -m cart_fairseq.evaluate --queries new.jsonl --data data-bin --path checkpoint_best.pt
python -m cart_fairseq.evaluate out.txt --queries new.jsonl --data data-bin   # out.txt is from fairseq-interactive
"""

import argparse
from collections.abc import Sequence

from cart_fairseq.base.calls import program
from cart_fairseq.base.files import refuse_unwritable, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.settings import PRECISIONS, SCORINGS, EvaluationSettings


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog=program("cart_fairseq.evaluate"),
        description="Measure retrieval, from generation output or by searching new queries with a checkpoint.",
    )
    made.add_argument(
        "generation", nargs="?", help="output of fairseq-generate, or of fairseq-interactive with --queries"
    )
    made.add_argument("--data", metavar="DIR", help="the data-bin; not needed where --path is a MODEL folder")
    made.add_argument("--subset", help="the measured subset (default: from the name generate-SUBSET.txt)")
    made.add_argument(
        "--queries",
        metavar="FILE",
        help="new queries in the format of captions.jsonl; rows with other roles than query are skipped",
    )
    made.add_argument(
        "--path",
        metavar="CKPT",
        help="search --queries with this checkpoint, the ensemble a.pt:b.pt, or a MODEL folder",
    )
    made.add_argument(
        "--beam", type=int, help="beam width, with --path (default: 30; 200 with a dense head and --no-lookahead)"
    )
    made.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=EvaluationSettings.precision,
        help="precision of the search, with --path (default: %(default)s)",
    )
    made.add_argument(
        "--scoring",
        choices=SCORINGS,
        default=EvaluationSettings.scoring,
        help="how the search scores symbols, with --path (default: %(default)s)",
    )
    made.add_argument(
        "--dense-weight",
        type=float,
        help="weight of the dense score, with --path; 0: no dense score (default: the model's own)",
    )
    made.add_argument(
        "--level-discount",
        type=float,
        help="weight of each symbol's score relative to the previous symbol's (1: equal), with --path (default: the "
        "model's own)",
    )
    made.add_argument(
        "--no-lookahead",
        action="store_true",
        help="the dense score only ranks the items found and does not guide the beam, with --path",
    )
    made.add_argument(
        "--prior-share",
        type=float,
        metavar="S",
        help="share of the items' priors that is subtracted from the dense score, with --path; 0: no priors (default: "
        "the model's own)",
    )
    made.add_argument(
        "--candidates",
        metavar="all|split|NAME",
        help="items that compete: the whole catalogue, those of the queries' split, or a named candidate set (default: "
        "split, or all for a generation file with an item outside the split)",
    )
    made.add_argument("--trec-run", metavar="FILE", help="write a TREC run to this file")
    made.add_argument("--qrels", metavar="FILE", help="write TREC relevance judgements to this file")
    made.add_argument("--json", metavar="FILE", help="write the metrics to this file")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the files asked for.

    Raises:
        ValueError: an input is wrong; the message names file, value and remedy.
    """
    command = parser()
    args = command.parse_args(argv)
    settings = EvaluationSettings(
        args.subset,
        args.candidates,
        args.beam,
        args.precision,
        args.scoring,
        args.dense_weight,
        args.level_discount,
        not args.no_lookahead,
        args.prior_share,
    )
    refuse_unwritable(args.trec_run, args.qrels, args.json)
    from cart_fairseq.loading.model_folder import is_model_folder
    from cart_fairseq.measuring.results import metric_table
    from cart_fairseq.steps.evaluation import evaluate

    if args.data is None and not (args.path and is_model_folder(args.path)):
        command.error("the following arguments are required: --data")
    found = evaluate(args.data or args.path, args.generation, args.queries, args.path, settings)
    if args.trec_run:
        found.write_run(args.trec_run)
    if args.qrels:
        found.write_qrels(args.qrels)
    if args.json:
        write_json(args.json, found.figures)
    print(metric_table(found.figures))


if __name__ == "__main__":
    run_script(main)
