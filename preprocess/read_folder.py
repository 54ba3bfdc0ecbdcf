"""List a folder of pictures, sounds and videos: `python -m preprocess.read_folder --help`.

`preprocess.folder.build` says where captions come from. From Python: `preprocess.api.read_folder`. If nothing in the
folder has changed, it does nothing; else it opens only the files that have.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from preprocess.data.arguments import not_negative, settings_from
from preprocess.folder.settings import NAMES, FolderSettings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.read_folder"),
        description="List the pictures, sounds and videos below a folder, with the captions that are found there.",
    )
    add, default = result.add_argument, FolderSettings()
    media = (
        "folder of media; what is none is passed over. If it holds none, media in its tar, Parquet and Arrow files are "
        "unpacked to ITEMS.media. It may also be one such file"
    )
    add("folder", type=Path, metavar="FOLDER", help=media)
    lists = "folder for items.jsonl, captions.jsonl and skipped.jsonl; it may lie inside FOLDER"
    add("--output", type=Path, required=True, metavar="ITEMS", help=lists)
    names = (
        "the words of a file's name and folders as a caption: where it has no other (auto), beside others (always), or "
        "never (%(default)s)"
    )
    add("--names", choices=NAMES, default=default.names, help=names)
    workers = "processes that read files; 0: none (%(default)s)"
    add("--workers", type=not_negative, default=default.workers, help=workers)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parser().parse_args(argv)
    settings = settings_from(FolderSettings, args)
    from preprocess.folder.build import read_folder

    print(read_folder(args.folder, args.output, settings).summary)


if __name__ == "__main__":
    run_script(main)
