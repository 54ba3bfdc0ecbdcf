"""Chooses the ranking weights on the valid queries, calibrates probabilities, and stores both in the checkpoint.

    python -m cart_fairseq.tune --data data-bin --path checkpoints/checkpoint_best.pt

Later searches with the checkpoint use these weights by default.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.files import refuse_unwritable, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.settings import CANDIDATES, SCORINGS, TuningSettings


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog=program("cart_fairseq.tune"),
        description="Choose level discount, dense weight and share of priors on the valid queries, calibrate the "
        "probabilities of hits on half of them, and store all in the checkpoint.",
    )
    add, default = made.add_argument, TuningSettings()
    add("--data", type=Path, required=True, metavar="DIR", help="the data-bin")
    add("--path", type=Path, required=True, metavar="CKPT", help="the checkpoint")
    add(
        "--candidates",
        choices=CANDIDATES,
        default=default.candidates,
        help="items that compete (default: %(default)s)",
    )
    add("--beam", type=int, help="beam width (default: 30 for identifiers alone, 200 with the dense head)")
    add(
        "--scoring",
        choices=SCORINGS,
        default=default.scoring,
        help="how the search scores symbols (default: %(default)s)",
    )
    discounts = "level discounts to compare (default: eight from 1, no discount, to 0.6)"
    add("--discounts", type=float, nargs="+", default=default.discounts, metavar="G", help=discounts)
    weights = "weights of the dense score to compare (default: 17 from 0, no dense score, to 30)"
    add("--weights", type=float, nargs="+", default=default.weights, metavar="W", help=weights)
    shares = "shares of the items' priors to compare (default: five from 0, no priors, to 1)"
    add("--shares", type=float, nargs="+", default=default.shares, metavar="S", help=shares)
    add("--dry-run", action="store_true", help="print the tables and do not change the checkpoint")
    add("--json", type=Path, metavar="FILE", help="write settings and metrics to this file")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Tune, print the tables and write the file asked for.

    Raises:
        ValueError: an input is wrong; the message names file, value and remedy.
    """
    args = parser().parse_args(argv)
    settings = TuningSettings(
        args.candidates,
        args.beam,
        args.scoring,
        tuple(args.discounts),
        tuple(args.weights),
        tuple(args.shares),
        keep=not args.dry_run,
    )
    refuse_unwritable(args.json)
    from cart_fairseq.steps.tuning import WEIGHT_STATE, tune

    found = tune(args.path, args.data, settings)
    print(found.tables())
    if settings.keep:
        print(f"{args.path}: searches with it use {', '.join(f'{name} {v:g}' for name, v in found.kept.items())} now")
    if WEIGHT_STATE in found.kept and found.weight == max(settings.weights):
        print(f"weight {found.weight:g} is the largest that was compared; --weights compares others")
    if found.calibration is None:
        print("hits have no probabilities: too few of the valid queries that calibrate them found their item")
    if args.json:
        write_json(args.json, found.as_json())


if __name__ == "__main__":
    run_script(main)
