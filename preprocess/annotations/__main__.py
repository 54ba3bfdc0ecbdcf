"""The published annotation files of a data set as items.jsonl and captions.jsonl, with the published splits.

`python -m preprocess.annotations READER --output FOLDER --media MEDIA ...`; each reader has a module that says where its
format is published. What is written: items.jsonl (`item_id`, `modality`, `media`, `split`), captions.jsonl (`item_id`,
`caption_id`, `text`, `role`: train for items to train on, query for the others) and missing.txt (the media that were not
found). Counts are printed beside those of the published files and of the paper's appendix A.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.files import run_script
from preprocess.annotations import audiocaps, clotho, karpathy, msrvtt, msvd
from preprocess.annotations.entries import Entry, Reading
from preprocess.annotations.media import MediaFolder
from preprocess.annotations.output import POLICIES, count_table, locate, write, write_missing
from preprocess.data.fields import SPLITS


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m preprocess.annotations", description="Read the published annotations of a data set."
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--output", type=Path, required=True, help="folder for items.jsonl, captions.jsonl, missing.txt"
    )
    shared.add_argument(
        "--media", type=Path, help="folder of the media files, at any depth; without it items have none"
    )
    shared.add_argument(
        "--missing-media",
        choices=POLICIES,
        default="skip",
        help="items without their file are left out (skip, the default), written all the same (keep), or refused (fail)",
    )
    readers = result.add_subparsers(dest="reader", required=True)

    text = "Flickr30k or MS-COCO: Karpathy's dataset_flickr30k.json or dataset_coco.json; restval counts as train"
    add = readers.add_parser("karpathy", parents=[shared], help=text, description=text).add_argument
    add("--annotations", type=Path, required=True, help="dataset_flickr30k.json or dataset_coco.json")

    for name, files in (
        ("clotho", [f"clotho_captions_{clotho.FOLDERS[split]}.csv" for split in SPLITS]),
        ("audiocaps", ["train.csv", "val.csv", "test.csv"]),
    ):
        text = f"{name}: {', '.join(files)}, at least one"
        add = readers.add_parser(name, parents=[shared], help=text, description=text).add_argument
        for split, file in zip(SPLITS, files, strict=True):
            add(f"--{split}", type=Path, help=file)

    text = "MSR-VTT, the 1k-A split: 9,000 videos to train on, of which some validate, and 1,000 to test on"
    add = readers.add_parser("msrvtt", parents=[shared], help=text, description=text).add_argument
    add("--annotations", type=Path, required=True, help="MSRVTT_data.json")
    add("--train-list", type=Path, required=True, help="MSRVTT_train.9k.csv")
    add("--test-list", type=Path, required=True, help="MSRVTT_JSFUSION_test.csv")
    add(
        "--valid-size",
        type=int,
        default=msrvtt.VALID_SIZE,
        help=f"videos of the training list that validate, 0 for none ({msrvtt.VALID_SIZE}, as many as in the original split)",
    )
    add("--seed", type=int, default=1, help="chooses the videos that validate (1)")

    text = "MSVD: AllVideoDescriptions.txt with the lists of 1,200, 100 and 670 videos"
    add = readers.add_parser("msvd", parents=[shared], help=text, description=text).add_argument
    add("--captions", type=Path, required=True, help="AllVideoDescriptions.txt, or a .json of video -> captions")
    for split, file in zip(SPLITS, ("train_list.txt", "val_list.txt", "test_list.txt"), strict=True):
        add(f"--{split}-list", type=Path, required=True, help=file)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    command = parser()
    args = command.parse_args(argv)
    if args.reader in ("clotho", "audiocaps") and not any(vars(args)[split] for split in SPLITS):
        command.error(f"{args.reader}: give at least one of --train, --valid and --test")
    for name in ("seed", "valid_size"):
        if vars(args).get(name, 0) < 0:
            command.error(f"argument --{name.replace('_', '-')}: {vars(args)[name]} is negative")
    reading = read(args)
    entries, missing = reading.entries, list[Entry]()
    paths: dict[str, str] = {}
    if args.media is None:
        print("no --media: the items are written without media files", file=sys.stderr)
    else:
        paths, missing = locate(reading.entries, MediaFolder(args.media), args.missing_media)
        entries = [entry for entry in reading.entries if entry.item_id in paths]
    write(args.output, entries, args.media, paths)
    write_missing(args.output, missing)
    if missing:
        done = "kept" if args.missing_media == "keep" else "left out"
        print(
            f"{args.media}: {len(missing):,} of {len(reading.entries):,} media files are missing, their items {done}; "
            f"{args.output / 'missing.txt'} lists them",
            file=sys.stderr,
        )
    print(count_table(entries, missing, reading.published))


def read(args: argparse.Namespace) -> Reading:
    """What the reader of the command line reads."""
    if args.reader == "karpathy":
        return karpathy.read(args.annotations)
    if args.reader == "msrvtt":
        return msrvtt.read(args.annotations, args.train_list, args.test_list, args.valid_size, args.seed)
    if args.reader == "msvd":
        return msvd.read(args.captions, {split: vars(args)[f"{split}_list"] for split in SPLITS})
    files = {split: vars(args)[split] for split in SPLITS if vars(args)[split] is not None}
    return clotho.read(files) if args.reader == "clotho" else audiocaps.read(files)


if __name__ == "__main__":
    run_script(main)
