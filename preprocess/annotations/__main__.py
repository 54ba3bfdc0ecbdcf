"""Published annotation files become items.jsonl and captions.jsonl: `python -m preprocess.annotations READER --help`.

`python -m preprocess.annotations READER --output FOLDER --media MEDIA ...`; each reader has a module that says where
its format is published. From Python: `preprocess.api.read_annotations`. Output: items.jsonl (`item_id`, `modality`,
`media`, `split`), captions.jsonl (`item_id`, `caption_id`, `text`, `role`: train for items to train on, query for the
others) and missing.txt (the media that were not found). Counts are printed beside those of the published files and of
the paper's appendix A.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.files import run_script
from preprocess.annotations.settings import FORMATS, POLICIES, AnnotationSettings
from preprocess.data.arguments import flag, settings_from


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m preprocess.annotations", description="Read the published annotations of a data set."
    )
    default = AnnotationSettings()
    shared = argparse.ArgumentParser(add_help=False)
    output = "folder for items.jsonl, captions.jsonl, missing.txt"
    shared.add_argument("--output", type=Path, required=True, help=output)
    media = "folder of the media files, at any depth; without it items have none"
    shared.add_argument("--media", type=Path, help=media)
    missing = (
        "items without their file are left out (skip), written all the same (keep), or refused (fail); %(default)s"
    )
    shared.add_argument("--missing-media", choices=POLICIES, default=default.missing_media, help=missing)
    readers = result.add_subparsers(dest="reader", required=True)
    for name, published in FORMATS.items():
        add = readers.add_parser(name, parents=[shared], help=published.about, description=published.about).add_argument
        for file, text in published.files.items():
            add(flag(file), type=Path, required=not published.optional, help=text)
        if name == "msrvtt":
            valid = "videos of the training list that validate, 0 for none (%(default)s, as in the original split)"
            add("--valid-size", type=int, default=default.valid_size, help=valid)
            add("--seed", type=int, default=default.seed, help="chooses the videos that validate (%(default)s)")
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
