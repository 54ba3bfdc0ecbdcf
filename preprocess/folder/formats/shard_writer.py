"""Writes what is in one packed file to a folder."""

import os
import posixpath
import shutil
from collections import defaultdict
from pathlib import Path

from preprocess.folder.formats.pieces import Damaged, Piece, Problem
from preprocess.folder.formats.safe_names import SafeNames
from preprocess.folder.limits import GROWTH
from preprocess.folder.listing import TEXTS, looks_like_medium

LATEST = float(1 << 33)
"""Seconds since 1970 that a file may have been changed at."""


class ShardWriter:
    """Writes pieces below a folder.

    Args:
        folder: an empty folder.
        most: bytes that may be written.

    Attributes:
        media: number of media that were written.
    """

    def __init__(self, folder: Path, most: int):
        self.folder, self.media = folder, 0
        self._left = most
        self._names = SafeNames()
        self._endings: dict[str, set[str]] = defaultdict(set)

    def write(self, piece: Piece) -> Problem | None:
        """Write a piece; return why not, where it cannot be used.

        Raises:
            Damaged: its file cannot be read on, or unpacks to too much.
        """
        path = self.folder / (self._names.of(piece.sample, piece.name) + piece.ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "xb")  # noqa: SIM115, closed below
        except FileExistsError:
            return Problem(piece.where, "another member has this name; the first is kept")
        try:
            with file:
                for block in piece.blocks:
                    self._left -= len(block)
                    if self._left < 0:
                        raise Damaged(f"unpacks to more than {GROWTH} times its size; leave the file out")
                    file.write(block)
        except Damaged:
            path.unlink()
            raise
        moment = piece.modified if 0 <= piece.modified <= LATEST else 0.0
        os.utime(path, (moment, moment))
        if isinstance(piece.sample, str):
            self._endings[piece.sample].add(piece.ending)
        self.media += looks_like_medium(f"a{piece.ending}")
        return None

    def share_texts(self) -> None:
        """Give media texts of their sample, where none has their own name.

        In webdataset the key of a sample ends at the first dot: `1.left.jpg` and `1.right.jpg` share `1.txt`, and `1.jpg`
        has `1.caption.txt`.
        """
        by_key: dict[str, list[str]] = defaultdict(list)
        for name, endings in self._endings.items():
            if endings & {*TEXTS}:
                by_key[sample_key(name)].append(name)
        for name, endings in self._endings.items():
            if endings & {*TEXTS} or not any(looks_like_medium(f"a{each}") for each in endings):
                continue
            key = sample_key(name)
            for other in by_key[key] if name == key else [key] if key in by_key[key] else []:
                for ending in self._endings[other] & {*TEXTS}:
                    source, copy = (self.folder / (self._names.of(each, each) + ending) for each in (other, name))
                    if not copy.exists():
                        shutil.copy2(source, copy)


def sample_key(name: str) -> str:
    """Return the key of a sample in webdataset, from a name without its last ending.

    >>> sample_key("a.b/1.left"), sample_key("1")
    ('a.b/1', '1')
    """
    folder, last = posixpath.split(name)
    return posixpath.join(folder, last.split(".")[0])
