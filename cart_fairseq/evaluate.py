"""Generation output to a metric table, metrics.json and TREC files; or new queries on an old checkpoint.

python -m cart_fairseq.evaluate out/generate-test.txt --data data-bin --trec-run run.trec --json metrics.json
python -m cart_fairseq.evaluate --queries new.jsonl --data data-bin --path checkpoint_best.pt
python -m cart_fairseq.evaluate out.txt --queries new.jsonl --data data-bin   # out.txt by fairseq-interactive
"""

import argparse
from collections.abc import Sequence

from cart_fairseq.files import run_script, write_json
from cart_fairseq.settings import PRECISIONS, SCORINGS, EvaluationSettings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m cart_fairseq.evaluate",
        description="Measure retrieval: from generation output, or by searching new queries with a checkpoint.",
    )
    made.add_argument(
        "generation", nargs="?", help="output of fairseq-generate, or of fairseq-interactive with --queries"
    )
    made.add_argument("--data", required=True, metavar="DIR", help="the data-bin")
    made.add_argument("--subset", help="subset that was generated; told by the name generate-SUBSET.txt unless given")
    made.add_argument(
        "--queries",
        metavar="FILE",
        help="new queries: rows like those of captions.jsonl, with the role query or none",
    )
    made.add_argument("--path", metavar="CKPT", help="search --queries with this checkpoint, or ensemble a.pt:b.pt")
    made.add_argument(
        "--beam", type=int, help="beam width with --path (30, and 200 where a dense head orders the beam)"
    )
    made.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=EvaluationSettings.precision,
        help="computed in with --path (float32)",
    )
    made.add_argument(
        "--scoring", choices=SCORINGS, default=EvaluationSettings.scoring, help="with --path (%(default)s)"
    )
    made.add_argument(
        "--dense-weight",
        type=float,
        help="of the dense score with --path, where the model has a dense head; 0: none (the model's own)",
    )
    made.add_argument(
        "--level-discount",
        type=float,
        help="with --path: weight of each symbol's score relative to the previous symbol's, up to 1 (the model's own)",
    )
    made.add_argument(
        "--candidates",
        metavar="all|split|NAME",
        help="items that competed, or compete: the catalogue, those of the queries' split, or a named set "
        "(default: split; with a generation file, all if it holds an item outside the split)",
    )
    made.add_argument("--trec-run", metavar="FILE", help="write a TREC run here")
    made.add_argument("--qrels", metavar="FILE", help="write TREC relevance judgements here")
    made.add_argument("--json", metavar="FILE", help="write the metrics here")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the files asked for.

    Raises:
        ValueError: an input is not what it should be; the message says what and where.
    """
    args = parser().parse_args(argv)
    settings = EvaluationSettings(
        args.subset, args.candidates, args.beam, args.precision, args.scoring, args.dense_weight, args.level_discount
    )
    from cart_fairseq.evaluation import evaluate
    from cart_fairseq.measuring.results import metric_table

    found = evaluate(args.data, args.generation, args.queries, args.path, settings)
    if args.trec_run:
        found.write_run(args.trec_run)
    if args.qrels:
        found.write_qrels(args.qrels)
    if args.json:
        write_json(args.json, found.figures)
    print(metric_table(found.figures))


if __name__ == "__main__":
    run_script(main)
