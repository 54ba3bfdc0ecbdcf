"""Find damage in files of this project: `python -m preprocess.verify --help`.

Reads all of a bundle, data-bin, MODEL folder, join, folder of extracted embeddings or checkpoint and compares its
checksums. The exit code is 2 if something is damaged. From Python: `verify` of `preprocess.api`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.verify"), description="Read files of this project and compare their checksums."
    )
    what = "an identifier bundle, a data-bin, a MODEL folder, a join, a folder of extracted embeddings, or a checkpoint"
    result.add_argument("paths", type=Path, nargs="+", metavar="PATH", help=what)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    from preprocess.verifying.whole import verify

    for path in args.paths:
        print(verify(path).summary)


if __name__ == "__main__":
    run_script(main)
