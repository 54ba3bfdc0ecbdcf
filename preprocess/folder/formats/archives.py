"""Media in tar files, as webdataset and img2dataset write them: `KEY.jpg`, `KEY.txt`, `KEY.json`.

Members are read in their order, and only plain files. Links, devices and names that lead out are refused. `tarfile` never
extracts anything: it only says where members begin.
"""

import bz2
import gzip
import lzma
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from preprocess.folder.formats.pieces import Damaged, Piece, Problem, unpacking
from preprocess.folder.formats.safe_names import is_passed_over
from preprocess.folder.limits import GROWTH, READ_BYTES, SIDECAR_BYTES, SMALLEST
from preprocess.folder.listing import TABLES, TEXTS, looks_like_medium

OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
BLOCK = tarfile.BLOCKSIZE
HEADERS = 2
"""Bytes that reading an archive may take for each of its own, because headers and ends are read twice."""


class Bounded:
    """A file for `tarfile`, which believes what headers say: never much at a time, and not without end.

    Args:
        path: of the archive, compressed or not.
    """

    def __init__(self, path: Path):
        with open(path, "rb") as file:
            begin = file.read(8)
        opener = next((each for magic, each in OPENERS.items() if begin.startswith(magic)), open)
        self.file: IO[bytes] = opener(path, "rb")
        size = path.stat().st_size
        self._largest = max(GROWTH * size, SMALLEST) if opener is not open else size
        self._left = HEADERS * self._largest + READ_BYTES

    def __enter__(self) -> "Bounded":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, place: int, whence: int = 0) -> int:
        if place < 0 or place > self._largest + READ_BYTES:
            raise Damaged(f"unpacks to more than {GROWTH} times its size, or is damaged; leave the file out")
        return self.file.seek(place, whence)

    def read(self, size: int) -> bytes:
        self._left -= size
        if size < 0 or size > READ_BYTES:
            raise Damaged(f"damaged (a header of {size:,} bytes); copy the file again")
        if self._left < 0 or self.file.tell() + size > self._largest + READ_BYTES:
            raise Damaged(f"unpacks to more than {GROWTH} times its size, or is damaged; leave the file out")
        return self.file.read(size)


def tar_pieces(path: Path) -> Iterator[Piece | Problem]:
    """Yield the media, sidecars and metadata tables in a tar file.

    Raises:
        Damaged: it cannot be read on from here.
    """
    with unpacking():
        source = Bounded(path)
    with source, unpacking():
        archive = tarfile.open(fileobj=source, mode="r:")  # type: ignore[call-overload] # noqa: SIM115, closed with source
        while True:
            with unpacking():
                member = archive.next()
                archive.members.clear()  # or all of them would be kept
                if member is None:
                    _check_end(archive, source)
                    return
            yield from _of_member(archive, member)


def _check_end(archive: tarfile.TarFile, source: Bounded) -> None:
    """Refuse an archive whose members end without the zeros that end archives; `tarfile` takes damage for the end."""
    source.seek(archive.offset)
    block = source.read(BLOCK)
    if len(block) < BLOCK:
        raise Damaged("cut off, or has no end; copy the file again")
    if any(block):
        raise Damaged("damaged (not a header of a member); copy the file again")


def _of_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[Piece | Problem]:
    """Yield what a member is, if it is of use."""
    name = member.name
    if member.isdir() or is_passed_over(name):
        return
    stem, ending = posixpath.splitext(name)
    ending = ending.lower()
    is_table = posixpath.basename(name) in TABLES
    if not (looks_like_medium(name) or ending in TEXTS or is_table):
        return
    if not member.isreg() or member.issparse():
        kind = "a link" if member.islnk() or member.issym() else "no plain file"
        yield Problem(name, f"is {kind}, which is not unpacked; pack the file itself")
    elif ".." in name.split("/"):
        yield Problem(name, "its name leads out of the archive; rename it")
    elif not member.size:
        yield Problem(name, "is empty; replace it")
    elif ending in TEXTS and member.size > SIDECAR_BYTES:
        yield Problem(name, f"has more than {SIDECAR_BYTES:,} bytes; make it shorter")
    else:
        yield Piece(stem, stem, ending, _blocks(archive, member), float(member.mtime), name)


def _blocks(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    with unpacking():
        file = archive.extractfile(member)
        assert file is not None
        left = member.size
        while left:
            block = file.read(min(left, READ_BYTES))
            if not block:
                raise Damaged("cut off; copy the file again")
            left -= len(block)
            yield block
