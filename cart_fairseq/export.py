"""Writes a checkpoint and its data-bin as one folder that is all that a search needs.

    python -m cart_fairseq.export --data data-bin --path checkpoints/checkpoint_best.pt --output MODEL

The folder is searched without fairseq, and served and updated like a data-bin.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.settings import STORED_PRECISIONS, ExportSettings


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog=program("cart_fairseq.export"),
        description="Write a checkpoint and its data-bin as one folder that is all that a search needs.",
    )
    add, default = made.add_argument, ExportSettings()
    add("--data", type=Path, required=True, metavar="DIR", help="the data-bin")
    add("--path", required=True, metavar="CKPT", help="the checkpoint, or the ensemble a.pt:b.pt")
    add("--output", type=Path, required=True, metavar="DIR", help="the MODEL folder to make")
    precision = "of the weights of encoder and decoder; bf16 and fp16 take half the room (default: %(default)s)"
    add("--precision", choices=STORED_PRECISIONS, default=default.precision, help=precision)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder, and print what it has.

    Raises:
        ValueError: an input is wrong, or the output's place is taken; the message names the path and the remedy.
    """
    args = parser().parse_args(argv)
    from cart_fairseq.publishing.exporting import export

    print(export(args.path, args.data, args.output, ExportSettings(args.precision)).summary)


if __name__ == "__main__":
    run_script(main)
