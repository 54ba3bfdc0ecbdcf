"""Look at a bundle's identifiers: `python -m preprocess.inspect_identifiers --help` (CART 4.4 and Figure 5).

From Python: `preprocess.inspection.page.inspect_identifiers`. Writes one HTML file that needs nothing else: use of
every level, collisions, items that share a prefix side by side with their pictures or players, and, given the
embeddings, how far near items have like identifiers.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from preprocess.data.arguments import positive, settings_from
from preprocess.inspection.settings import InspectionSettings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.inspect_identifiers"),
        description="Write an HTML report on the identifiers of a catalogue.",
    )
    add, default = result.add_argument, InspectionSettings()
    add("--identifiers", type=Path, required=True, help="folder of the identifier bundle")
    add("--output", type=Path, required=True, help="HTML file to write")
    add(
        "--embeddings",
        type=Path,
        help="what the bundle was built from, a join's folder too; without it no neighbours and no t-SNE",
    )
    add("--media", type=Path, help="folder that the items' media paths are relative to; without it no pictures")
    add("--media-within", type=Path, help="show only files in this folder, links followed (the folder --media)")
    add("--captions", type=Path, help="captions.jsonl; the first caption of an item is shown with it")
    for flag, text in (
        ("--sample", "items in the t-SNE plot, and whose neighbours are searched"),
        ("--neighbours", "nearest neighbours of an item"),
        ("--groups", "prefixes of each length to show"),
        ("--items", "items of each prefix to show"),
        ("--file-mib", "larger media files are left out"),
        ("--total-mib", "media files of no more than this in all"),
    ):
        value = getattr(default, flag[2:].replace("-", "_"))
        add(flag, type=positive, default=value, metavar="N", help=f"{text} ({value})")
    add("--seed", type=int, default=default.seed, help="of everything that is drawn by chance (%(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    settings = settings_from(InspectionSettings, args)
    from preprocess.inspection.page import inspect_identifiers

    print(inspect_identifiers(args.identifiers, args.output, settings).summary)


if __name__ == "__main__":
    run_script(main)
