"""The step `read_folder`: a folder of pictures, sounds and videos to items.jsonl and captions.jsonl.

Where the folder holds no media but files with media in them (tar, Parquet, Arrow), these are unpacked beside the lists
first, and what was unpacked is read in place of the folder.

Captions come from all that describes a file, in this order: texts beside it, metadata tables, the file's own metadata.
The words of its path are one where it has no other. `preprocess.folder.items` says what a row has.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import digest
from cart_fairseq.base.progress import Progress
from cart_fairseq.base.wording import counted
from preprocess.data.fields import MODALITIES
from preprocess.data.output import Output
from preprocess.folder.contents import Contents, Job, read_contents
from preprocess.folder.formats.opened import open_source
from preprocess.folder.formats.sources import ending_of
from preprocess.folder.items import SOURCES, caption_rows, item_row
from preprocess.folder.listing import TEXTS, File, Listing, Skipped, composed, looks_like_medium
from preprocess.folder.output import (
    FOLDER,
    SKIPPED,
    VERSION,
    Stamp,
    known_contents,
    read_record,
    stamp_of,
    write_folder,
)
from preprocess.folder.pool import run_jobs
from preprocess.folder.settings import FolderSettings
from preprocess.folder.tables import Tables

NEEDED = ("PIL", "soundfile", "av")
CRASHED = "brings the libraries down that read it; replace it"


@dataclass(frozen=True)
class ReadFolder:
    """What `read_folder` has done.

    Attributes:
        directory: the folder with the lists.
        is_new: False if it was there already, made from the same files and settings.
        items: `image`, `audio` and `video` -> number of items.
        captions: source -> number of captions.
        without_captions: number of items that have none.
        skipped: number of files that cannot be used, and of rows of tables; skipped.jsonl lists them.
        media: the folder that the items' ids are paths in: the one that was given, or OUTPUT.media.
        summary: the result as text.
    """

    directory: Path
    is_new: bool
    items: Mapping[str, int]
    captions: Mapping[str, int]
    without_captions: int
    skipped: int
    media: Path
    summary: str


@checks_settings
def read_folder(folder: str | Path, output: str | Path, settings: FolderSettings = FolderSettings()) -> ReadFolder:
    """Read a folder of pictures, sounds and videos, and write items.jsonl, captions.jsonl and skipped.jsonl.

    Files of which size and time did not change since the last output are not opened again.

    Args:
        folder: the folder. It may hold anything; what is no medium is passed over. If it holds no media, but tar, Parquet
            or Arrow files with media in them, these are unpacked to `OUTPUT.media/`. It may also be one such file.
        output: the folder to make, also inside of `folder`. Only earlier lists of a folder or an empty folder are
            replaced. If nothing has changed, nothing is done.
        settings: see `FolderSettings`.

    Raises:
        ValueError: there is no such folder, or it holds no medium; the extra `[media]` is not installed; `output` holds
            something else, or another run is writing it; there is no room to unpack media.
    """
    out = Output(output, FOLDER)
    check_folder(Path(folder))
    out.refuse_foreign()
    source = open_source(Path(folder), out)
    folder, listing = source.folder, source.listing
    made_from: dict[str, Any] = {
        "version": VERSION,
        "media": os.path.relpath(os.path.realpath(folder), os.path.realpath(out.path)),
        "names": settings.names,
        "listing": digest([listing.files, listing.skipped, listing.others]),
    }
    if out.is_current(made_from):
        return described(out, False)
    with out.locked():
        known = known_contents(out.path, made_from["media"])
        read = read_files(folder, listing, known, settings.workers)
        if not all(contents.is_final for _, contents in read):
            made_from["listing"] = "unfinished"  # errors of the system may be over in the next run
        write_lists(out, folder, listing, read, settings, made_from)
    return described(out, True)


def check_folder(folder: Path) -> None:
    """Refuse what is no folder, and to begin without the libraries that read media."""
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder; check the path")
    if not folder.is_dir() and ending_of(folder.name) is None:
        raise ValueError(f"{folder}: is a file; give the folder that holds the media")
    for name in NEEDED:
        try:
            import_module(name)
        except ImportError:
            raise ValueError(f"{folder}: reading media needs {name}; pip install 'cart-fairseq[media]'") from None


def read_files(
    folder: Path, listing: Listing, known: Mapping[str, tuple[Stamp, Contents]], workers: int
) -> list[tuple[Stamp, Contents]]:
    """Return stamp and contents of all files that may be media, in order; those that are known are not opened."""
    sidecars: dict[str, list[File]] = defaultdict(list)
    for file in listing.files:
        if file.ending in TEXTS:
            sidecars[file.stem].append(file)
    media = [file for file in listing.files if file.ending not in TEXTS and not file.is_table]
    beside = {
        file.path: sorted(
            (*sidecars.get(composed(file.path), ()), *sidecars.get(file.stem, ())),
            key=lambda each: TEXTS.index(each.ending),
        )
        for file in media
    }
    stamps = {file.path: stamp_of(file, beside[file.path]) for file in media}
    found = {path: known[path][1] for path, stamp in stamps.items() if path in known and known[path][0] == stamp}
    root = os.path.realpath(folder)
    jobs = [
        Job(root, file.path, tuple(each.path for each in beside[file.path])) for file in media if file.path not in found
    ]
    with Progress(len(media), "reading media", "files", done=len(found)) as progress:
        for job, contents in run_jobs(read_contents, jobs, workers):
            crashed = [(job.path, CRASHED)] if looks_like_medium(job.path) else []
            found[job.path] = Contents(problems=crashed) if contents is None else contents
            progress.update()
    return [(stamps[file.path], found[file.path]) for file in media]


def write_lists(
    out: Output,
    folder: Path,
    listing: Listing,
    read: Sequence[tuple[Stamp, Contents]],
    settings: FolderSettings,
    made_from: Mapping[str, Any],
) -> None:
    """Write the output.

    Raises:
        ValueError: there is no medium among the files.
    """
    media = [(File(*stamp[0]), contents) for stamp, contents in read if contents.kind]
    problems = {Skipped(*each) for _, contents in read for each in contents.problems}
    skipped = {*listing.skipped, *problems}
    if not media:
        raise no_media(folder, listing, sorted(skipped))
    tables = Tables(folder, {file.path for file, _ in media}, {each.path for each in skipped})
    for file in listing.files:
        if file.is_table:
            tables.read(file)
    skipped |= {*tables.skipped}
    beside = {path for stamp, contents in read if contents.kind for path, *_ in stamp[1:]}
    unused = sum(not contents.kind and not contents.problems for _, contents in read)
    unused += sum(file.ending in TEXTS and file.path not in beside for file in listing.files)
    captions = [caption_rows(*each, tables, settings.names) for each in media]
    counts = {
        "items": Counter(contents.kind for _, contents in media),
        "captions": Counter(row["source"] for row in chain.from_iterable(captions)),
        "without_captions": sum(not rows for rows in captions),
        "others": listing.others + unused,
        "skipped": len(skipped),
        "first_skipped": min(skipped, default=None),
    }
    items = (item_row(*each, tables, made_from["media"]) for each in media)
    with out.replacing() as new:
        record = {"made_from": made_from, "counts": counts}
        write_folder(new, items, chain.from_iterable(captions), sorted(skipped), read, record)


def no_media(folder: Path, listing: Listing, skipped: Sequence[Skipped]) -> ValueError:
    """The error for a folder without media that can be used."""
    count = len(listing.files) + listing.others
    first = f"; {len(skipped)} cannot be used, the first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
    return ValueError(
        f"{folder}: holds no picture, sound or video that can be read, among {count:,} other files{first}; give a folder "
        "with media"
    )


def described(out: Output, is_new: bool) -> ReadFolder:
    """What the record of an output tells of it."""
    counts = read_record(out.path)["counts"]
    items, captions = counts["items"], counts["captions"]
    summary = "\n".join(_lines(out.path, counts))
    if not is_new:
        summary += f"\n{out.path}: up to date with these files and settings, nothing to do"
    media = Path(os.path.normpath(out.path / read_record(out.path)["made_from"]["media"]))
    return ReadFolder(out.path, is_new, items, captions, counts["without_captions"], counts["skipped"], media, summary)


def _lines(path: Path, counts: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the summary."""
    items, captions = counts["items"], counts["captions"]
    kinds = ", ".join(f"{items[kind]:,} {kind}" for kind in MODALITIES if kind in items)
    yield f"{path}: {counted(sum(items.values()), 'item')} ({kinds})"
    sources = ", ".join(f"{captions[source]:,} {source}" for source in SOURCES if source in captions)
    shown = f" ({sources})" if sources else ""
    without = counted(counts["without_captions"], "item") + (" has" if counts["without_captions"] == 1 else " have")
    yield f"{counted(sum(captions.values()), 'caption')}{shown}; {without} none"
    if counts["skipped"]:
        where, reason = counts["first_skipped"]
        yield f"{counts['skipped']:,} skipped, the first: {where}: {reason}; {path / SKIPPED} lists them"
    if counts["others"]:
        yield f"{counted(counts['others'], 'other file')} passed over"
