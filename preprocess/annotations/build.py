"""The step `read_annotations`: the published annotation files of a data set become items.jsonl and captions.jsonl."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from preprocess.annotations import audiocaps, clotho, karpathy, msrvtt, msvd
from preprocess.annotations.entries import Entry, Reading
from preprocess.annotations.media import MediaFolder
from preprocess.annotations.output import count_table, locate, write, write_missing
from preprocess.annotations.settings import FORMATS, AnnotationSettings
from preprocess.data.fields import SPLITS


@dataclass(frozen=True)
class WrittenAnnotations:
    """What `read_annotations` has written.

    Attributes:
        directory: the folder.
        items, captions: how many there are.
        missing: item ids whose media file was not found.
        summary: a table of counts beside the published ones, for people.
    """

    directory: Path
    items: int
    captions: int
    missing: tuple[str, ...]
    summary: str


def read_annotations(
    reader: str,
    files: Mapping[str, str | Path],
    output: str | Path,
    settings: AnnotationSettings = AnnotationSettings(),
    *,
    media: str | Path | None = None,
) -> WrittenAnnotations:
    """Read the annotation files of a data set and write items.jsonl, captions.jsonl and missing.txt.

    Args:
        reader: a name of `FORMATS`: karpathy, clotho, audiocaps, msrvtt or msvd.
        files: the files by their names in `FORMATS`, such as `{"annotations": "dataset_coco.json"}`.
        output: a folder.
        media: the folder of the media files, at any depth. None: the items are written without media.

    Raises:
        ValueError: there is no such reader, a file is not given, is none of this format or has a bad row; media files
            are missing that may not be, or are ambiguous.
    """
    output = Path(output)
    reading = read(reader, {name: Path(path) for name, path in files.items()}, settings)
    entries, missing = reading.entries, list[Entry]()
    paths: dict[str, str] = {}
    if media is None:
        print("no --media: the items are written without media files", file=sys.stderr)
    else:
        media = Path(media)
        paths, missing = locate(reading.entries, MediaFolder(media), settings.missing_media)
        entries = [entry for entry in reading.entries if entry.item_id in paths]
    write(output, entries, media, paths)
    write_missing(output, missing)
    if missing:
        done = "kept" if settings.missing_media == "keep" else "left out"
        print(
            f"{media}: {len(missing):,} of {len(reading.entries):,} media files are missing, their items {done}; "
            f"{output / 'missing.txt'} lists them",
            file=sys.stderr,
        )
    captions = sum(len(entry.captions) for entry in entries)
    absent = tuple(entry.item_id for entry in missing)
    summary = count_table(entries, missing, reading.published)
    return WrittenAnnotations(output, len(entries), captions, absent, summary)


def read(reader: str, files: Mapping[str, Path], settings: AnnotationSettings) -> Reading:
    """What a reader reads; see `read_annotations`."""
    if reader not in FORMATS:
        raise ValueError(f"there is no reader {reader!r} of annotations; use one of {', '.join(FORMATS)}")
    needed = FORMATS[reader]
    unknown = [name for name in files if name not in needed.files]
    if unknown:
        raise ValueError(f"{reader} has no file {unknown[0]!r}; its files are {', '.join(needed.files)}")
    lacking = [name for name in needed.files if name not in files]
    if needed.optional and not files:
        raise ValueError(f"{reader}: give at least one of --train, --valid and --test")
    if lacking and not needed.optional:
        raise ValueError(f"{reader}: needs {needed.files[lacking[0]]} as well; give it as {lacking[0]!r}")
    if reader == "karpathy":
        return karpathy.read(files["annotations"])
    if reader == "msrvtt":
        lists = files["train_list"], files["test_list"]
        return msrvtt.read(files["annotations"], *lists, settings.valid_size, settings.seed)
    if reader == "msvd":
        return msvd.read(files["captions"], {split: files[f"{split}_list"] for split in SPLITS})
    return clotho.read(files) if reader == "clotho" else audiocaps.read(files)
