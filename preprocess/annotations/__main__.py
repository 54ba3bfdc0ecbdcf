"""Convert published annotations to items.jsonl and captions.jsonl: `python -m preprocess.annotations READER --help`.

    python -m preprocess.annotations READER --output FOLDER --media MEDIA ...

Each reader has a module that says where its format is published. From Python: `preprocess.api.read_annotations`. If
FOLDER was made from the same files, media and settings, nothing is written. FOLDER contains:

- items.jsonl: `item_id`, `modality`, `media`, `split`.
- captions.jsonl: `item_id`, `caption_id`, `text`, `role`. The role is `train` for training items, otherwise `query`.
- missing.txt: the media that were not found.
- annotations.json: what the other files were made from.

The command prints the counts beside those of the published files and of the paper's appendix A.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from preprocess.annotations.settings import FORMATS, POLICIES, AnnotationSettings
from preprocess.data.arguments import flag, settings_from


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.annotations"), description="Read the published annotations of a data set."
    )
    default = AnnotationSettings()
    shared = argparse.ArgumentParser(add_help=False)
    output = "folder for items.jsonl, captions.jsonl and missing.txt"
    shared.add_argument("--output", type=Path, required=True, help=output)
    media = "folder of the media files, which may be in subfolders; without it items have no media"
    shared.add_argument("--media", type=Path, help=media)
    missing = (
        "items whose media file is missing: leave them out (skip), write them anyway (keep) or stop (fail); default: "
        "%(default)s"
    )
    shared.add_argument("--missing-media", choices=POLICIES, default=default.missing_media, help=missing)
    readers = result.add_subparsers(dest="reader", required=True)
    for name, published in FORMATS.items():
        add = readers.add_parser(name, parents=[shared], help=published.about, description=published.about).add_argument
        for file, text in published.files.items():
            add(flag(file), type=Path, required=not published.optional, help=text)
        if name == "msrvtt":
            valid = "number of training videos to use as the valid set; 0: none (%(default)s, as in the original split)"
            add("--valid-size", type=int, default=default.valid_size, help=valid)
            add("--seed", type=int, default=default.seed, help="seed for choosing the valid videos (%(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parser().parse_args(argv)
    settings = settings_from(AnnotationSettings, args)
    files = {name: vars(args)[name] for name in FORMATS[args.reader].files if vars(args)[name] is not None}
    from preprocess.annotations.build import read_annotations

    print(read_annotations(args.reader, files, args.output, settings, media=args.media).summary)


if __name__ == "__main__":
    run_script(main)
