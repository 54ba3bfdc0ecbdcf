"""Find how to order what a beam found, on the valid queries, and keep it in the checkpoint.

    python -m cart_fairseq.tune --data data-bin --path checkpoints/checkpoint_best.pt

Searches with the checkpoint use what was found from then on, unless they are told otherwise.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.files import run_script, write_json
from cart_fairseq.settings import SCORINGS, TuningSettings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m cart_fairseq.tune",
        description="Find discount and dense weight on the valid queries, and keep them in the checkpoint.",
    )
    add, default = made.add_argument, TuningSettings()
    add("--data", type=Path, required=True, metavar="DIR", help="the data-bin")
    add("--path", type=Path, required=True, metavar="CKPT", help="the checkpoint")
    add("--candidates", choices=("split", "all"), default=default.candidates, help="items that compete (%(default)s)")
    add("--beam", type=int, help="beam width (30, and 200 where a dense head orders the beam)")
    add("--scoring", choices=SCORINGS, default=default.scoring, help="how the search scores symbols (%(default)s)")
    discounts = "discounts of later symbols to compare (from 1, none, to 0.6)"
    add("--discounts", type=float, nargs="+", default=default.discounts, metavar="G", help=discounts)
    weights = "weights to compare (from 0, the identifiers alone, to 30)"
    add("--weights", type=float, nargs="+", default=default.weights, metavar="W", help=weights)
    add("--dry-run", action="store_true", help="show the tables and leave the checkpoint alone")
    add("--json", type=Path, metavar="FILE", help="write settings and figures here")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    settings = TuningSettings(
        args.candidates, args.beam, args.scoring, tuple(args.discounts), tuple(args.weights), keep=not args.dry_run
    )
    from cart_fairseq.tuning import tune

    found = tune(args.path, args.data, settings)
    print(found.tables())
    if settings.keep:
        print(f"{args.path}: searches with it use {', '.join(f'{name} {v:g}' for name, v in found.kept.items())} now")
    if args.json:
        write_json(args.json, found.as_json())


if __name__ == "__main__":
    run_script(main)
