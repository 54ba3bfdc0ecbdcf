"""The step `read_annotations`: convert the published annotations of a data set to items.jsonl and captions.jsonl."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import digest, sha256
from preprocess.annotations import audiocaps, clotho, karpathy, msrvtt, msvd
from preprocess.annotations.entries import Reading
from preprocess.annotations.media import MediaFolder
from preprocess.annotations.output import ANNOTATIONS, MISSING, Located, count_table, locate, media_start, write_folder
from preprocess.annotations.settings import FORMATS, AnnotationSettings
from preprocess.data.fields import SPLITS
from preprocess.data.output import Output


@dataclass(frozen=True)
class WrittenAnnotations:
    """What `read_annotations` has done.

    Attributes:
        directory: the folder.
        is_new: False if it was there already, made from the same files, media and settings.
        items: number of items.
        captions: number of captions.
        missing: ids of the items whose media file was not found.
        summary: a table of counts beside the published ones, as text.
    """

    directory: Path
    is_new: bool
    items: int
    captions: int
    missing: tuple[str, ...]
    summary: str


@checks_settings
def read_annotations(
    reader: str,
    files: Mapping[str, str | Path],
    output: str | Path,
    settings: AnnotationSettings = AnnotationSettings(),
    *,
    media: str | Path | None = None,
) -> WrittenAnnotations:
    """Read the annotation files of a data set and write items.jsonl, captions.jsonl and missing.txt.

    If `output` was made from the same files, media and settings, nothing is written.

    Args:
        reader: the format: a name of `preprocess.annotations.settings.FORMATS`, such as `karpathy`.
        files: the files by the names that the format gives them, such as `{"annotations": "dataset_coco.json"}`.
        output: the folder to make. Only earlier annotations or an empty folder are replaced.
        settings: see `AnnotationSettings`.
        media: the folder of the media files, which may lie in folders below it. None: the items are written without
            media.

    Raises:
        ValueError: there is no such reader; a file is not given, is not of this format or has a bad row; media files
            are missing and `missing_media` is `fail`, or all are missing and it is `skip`; a media file is ambiguous;
            `output` holds something else, or another run is writing it.
        TypeError: an argument has another type.
    """
    out = Output(output, ANNOTATIONS)
    out.refuse_foreign()
    if not isinstance(files, Mapping) or not all(isinstance(path, str | os.PathLike) for path in files.values()):
        raise TypeError(
            f"read_annotations: files is {files!r}; give a path for each name, as in {{'annotations': FILE}}"
        )
    paths = {name: Path(path) for name, path in files.items()}
    reading = read(reader, paths, settings)
    entries, located, start = reading.entries, Located({}, []), None
    if media is None:
        print("no --media: the items are written without media files", file=sys.stderr)
    else:
        start = media_start(Path(media), out.path)
        located = locate(reading.entries, MediaFolder(Path(media)), settings.missing_media)
        entries = [entry for entry in reading.entries if entry.item_id in located.paths]
    made_from = {
        "reader": reader,
        "settings": dataclasses.asdict(settings),
        "inputs_sha256": {name: sha256(path) for name, path in paths.items()},
        "media": start,
        "media_files": digest(located.paths),
    }
    summary = count_table(entries, located.missing, reading.published)
    is_new = not out.is_current(made_from)
    if is_new:
        with out.locked(), out.replacing() as new:
            write_folder(new, entries, located, start, made_from)
    else:
        summary += f"\n{out.path}: up to date with these files, media and settings, nothing to do"
    if located.missing:
        done = "kept" if settings.missing_media == "keep" else "left out"
        print(
            f"{media}: {len(located.missing):,} of {len(reading.entries):,} media files are missing, their items are "
            f"{done}; {out.path / MISSING} lists them",
            file=sys.stderr,
        )
    captions = sum(len(entry.captions) for entry in entries)
    absent = tuple(entry.item_id for entry in located.missing)
    return WrittenAnnotations(out.path, is_new, len(entries), captions, absent, summary)


def read(reader: str, files: Mapping[str, Path], settings: AnnotationSettings) -> Reading:
    """Call a reader; see `read_annotations`."""
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
        raise ValueError(f"{reader}: {needed.files[lacking[0]]} is missing; give it as {lacking[0]!r}")
    if reader == "karpathy":
        return karpathy.read(files["annotations"])
    if reader == "msrvtt":
        lists = files["train_list"], files["test_list"]
        return msrvtt.read(files["annotations"], *lists, settings.valid_size, settings.seed)
    if reader == "msvd":
        return msvd.read(files["captions"], {split: files[f"{split}_list"] for split in SPLITS})
    return clotho.read(files) if reader == "clotho" else audiocaps.read(files)
