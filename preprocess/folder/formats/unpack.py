"""Unpacks media from files of data sets, once, into a folder of plain files that everything else reads.

Each packed file becomes a folder of its own, whole or not at all, so that a run that was stopped goes on with the next
one. A second run unpacks only what has changed, and removes what is gone.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cart_fairseq.base.files import locked_file, remove_scratch, replacing, write_json
from cart_fairseq.base.progress import Progress
from cart_fairseq.base.reading import printable, read_json
from preprocess.folder.formats.pieces import Damaged, Piece, Problem
from preprocess.folder.formats.shard_writer import ShardWriter
from preprocess.folder.formats.sources import Packed, described, pieces_of
from preprocess.folder.limits import GROWTH, SMALLEST
from preprocess.folder.listing import Skipped

MARK, SHARD, LOCK = ".unpacked.json", ".shard.json", ".lock"
"""Hidden, so that nothing takes them for media: the mark of the folder, the record of a shard, the lock."""
VERSION = 1
"""Of what is unpacked. With another one, all files are unpacked again."""


class Unpacked(NamedTuple):
    """What was unpacked.

    Attributes:
        new: number of packed files that were unpacked in this run.
        media: number of media in all.
        skipped: what cannot be used.
    """

    new: int
    media: int
    skipped: list[Skipped]


def unpack(root: Path, packed: Sequence[Packed], output: Path) -> Unpacked:
    """Unpack files, and remove what earlier runs unpacked of files that are gone.

    Args:
        root: the folder that holds the files.
        packed: the files.
        output: the folder to write; a folder in it for each file.

    Raises:
        ValueError: `output` holds something else, another run is writing it, or there is no room for the media.
    """
    _refuse_foreign(output)
    output.mkdir(parents=True, exist_ok=True)
    try:
        with locked_file(output / LOCK):
            write_json(output / MARK, {"version": VERSION})
            remove_scratch(output)
            return _unpack(root, packed, output)
    except BlockingIOError:
        raise ValueError(f"{output}: another run is unpacking media; wait for it or stop it") from None


def is_unpacked(output: Path) -> bool:
    """Whether a folder is one that `unpack` wrote."""
    return (output / MARK).is_file()


def _refuse_foreign(output: Path) -> None:
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ValueError(f"{output}: is no folder, but media are unpacked to this name; move it away")
    if output.is_dir() and not is_unpacked(output) and any(name != LOCK for name in os.listdir(output)):
        raise ValueError(f"{output}: holds other files, but media are unpacked to this name; move it away")


def _unpack(root: Path, packed: Sequence[Packed], output: Path) -> Unpacked:
    records = {each.name: _known(output / each.name, each) for each in packed}
    for child in output.iterdir():
        if child.name not in records and (child / SHARD).is_file() and not child.is_symlink():
            shutil.rmtree(child)
    waiting = [each for each in packed if records[each.name] is None]
    if waiting:
        needed, free = sum(each.file.bytes for each in waiting), shutil.disk_usage(output).free
        print(f"{output}: unpacking {described(waiting)}, {size(needed)}; {size(free)} are free")
        if needed > free:
            raise ValueError(f"{output}: about {size(needed)} are needed, {size(free)} are free; make room")
    with Progress(None, "unpacking", "files") as progress:
        for each in waiting:
            with replacing(output / each.name, directory=True, many=True) as new:
                record = _write_shard(root / each.file.path, each, new, progress)
                write_json(new / SHARD, record)
            records[each.name] = record
    found = [record for record in records.values() if record is not None]
    skipped = [Skipped(*pair) for record in found for pair in record["skipped"]]
    return Unpacked(len(waiting), sum(record["media"] for record in found), skipped)


def size(count: int) -> str:
    """A number of bytes for people.

    >>> size(999), size(2_500_000), size(3_000_000_000)
    ('999 bytes', '2.5 MB', '3.0 GB')
    """
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6)):
        if count >= bytes_:
            return f"{count / bytes_:,.1f} {unit}"
    return f"{count:,} bytes"


def _made_from(packed: Packed) -> dict[str, Any]:
    return {"version": VERSION, "file": list(packed.file)}


def _known(shard: Path, packed: Packed) -> dict[str, Any] | None:
    """The record of a shard that was unpacked from this file; None where it must be unpacked."""
    with suppress(ValueError, LookupError, TypeError):
        record = read_json(shard / SHARD)
        if record["made_from"] == _made_from(packed) and isinstance(record["media"], int):
            return {**record, "skipped": [[str(path), str(why)] for path, why in record["skipped"]]}
    return None


def _write_shard(source: Path, packed: Packed, new: Path, progress: Progress) -> dict[str, Any]:
    """Unpack one file, as far as it can be read; return the record."""
    writer = ShardWriter(new, max(GROWTH * packed.file.bytes, SMALLEST))
    skipped: list[tuple[str, str]] = []
    place = ""
    try:
        for each in pieces_of(source):
            problem: Piece | Problem | None = each
            if isinstance(each, Piece):
                place = f" at {each.where}"
                problem = writer.write(each)
                progress.update()
            if isinstance(problem, Problem):
                skipped.append((f"{packed.file.path}: {problem.where}", problem.reason))
    except Damaged as error:
        skipped.append((packed.file.path + place, str(error)))
    writer.share_texts()
    shown = [[printable(" ".join(text.split())) for text in pair] for pair in skipped]
    return {"made_from": _made_from(packed), "media": writer.media, "skipped": shown}
