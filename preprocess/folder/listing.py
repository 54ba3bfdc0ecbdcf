"""The files below a folder, by what the system says of them: nothing is opened here.

Passed over are hidden files and folders, what systems leave behind, and the output of the step. Links to files are taken
if they lead to a file inside the folder. Links to folders are not followed: what they show inside the folder is found
anyway, and what lies outside is not the folder's.
"""

import os
import stat
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cart_fairseq.base.checks import is_encodable
from cart_fairseq.base.files import inside
from cart_fairseq.base.media_types import type_of_name
from cart_fairseq.base.progress import Progress
from cart_fairseq.base.reading import printable
from preprocess.data.inputs import check_id

LEFT_BEHIND = frozenset(
    "__macosx @eadir #recycle @recycle $recycle.bin thumbs.db ehthumbs.db desktop.ini lost+found".split()  # noqa: SIM905
) | {"system volume information"}
"""Files and folders that systems and network drives leave behind, in small letters."""
TEXTS = (".txt", ".json")
"""Endings of sidecars."""
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Endings of archives that may hold media."""
ARROW, PARQUET = ".arrow", ".parquet"
PACKED = (*ARCHIVES, ARROW, PARQUET)
"""Endings of files that may hold media."""
MORE_ENDINGS = frozenset(
    """
    .jfif .jpe .jp2 .jxl .heic .heif .ico .psd .tga .ppm .pgm .pbm .pnm .eps .raw .cr2 .cr3 .nef .arw .dng .orf .rw2
    .raf .apng .aac .wma .aif .aiff .aifc .caf .amr .ape .mka .mid .midi .m4b .au .ac3 .wmv .flv .mpg .mpeg .m2v .mts
    .m2ts .vob .3gp .3g2 .asf .mxf
    """.split()  # noqa: SIM905
)
"""Endings of media besides those of `cart_fairseq.base.media_types`."""


class File(NamedTuple):
    """A file to read.

    Attributes:
        path: below the folder, with `/`.
        bytes: its size.
        modified: nanoseconds since 1970.
    """

    path: str
    bytes: int
    modified: int

    @property
    def stem(self) -> str:
        """The path without the ending; accents are part of their letters, however the system stores them."""
        return composed(str(PurePosixPath(self.path).with_suffix("")))

    @property
    def ending(self) -> str:
        """The ending in small letters."""
        return PurePosixPath(self.path).suffix.lower()

    @property
    def is_table(self) -> bool:
        """Whether it is a table of metadata."""
        return PurePosixPath(self.path).name in TABLES


class Skipped(NamedTuple):
    """A file or folder that cannot be used, and why."""

    path: str
    reason: str


class Listing(NamedTuple):
    """What lies below a folder, in the order of the paths.

    Attributes:
        files: those that may be media, sidecars or tables.
        skipped: what looks like one but cannot be used, and folders that cannot be read.
        others: number of files that are none, as far as that is known without reading them.
    """

    files: list[File]
    skipped: list[Skipped]
    others: int


def composed(text: str) -> str:
    """A text with letters and accents as one character each (NFC)."""
    return unicodedata.normalize("NFC", text)


def looks_like_medium(path: str) -> bool:
    """Whether a name's ending is that of a picture, sound or video."""
    ending = PurePosixPath(path).suffix.lower()
    return type_of_name(ending) is not None or ending in MORE_ENDINGS


def list_folder(folder: Path, without: Collection[Path]) -> Listing:
    """List a folder.

    Args:
        folder: an existing folder.
        without: folders that are passed over, where they lie below it.

    Raises:
        ValueError: the folder itself cannot be read.
    """
    root = os.path.realpath(folder)
    left_out = {os.path.realpath(each) for each in without}
    files: list[File] = []
    skipped: list[Skipped] = []
    others, waiting = 0, [""]
    with Progress(None, "looking for media", "files") as progress:
        while waiting:
            below = waiting.pop()
            try:
                entries = list(_entries(os.path.join(root, below)))
            except OSError as error:
                if not below:
                    raise ValueError(
                        f"{folder}: cannot be read ({error.strerror}); give your account the right to read it"
                    ) from None
                skipped.append(Skipped(printable(below), f"a folder that cannot be read ({error.strerror})"))
                continue
            for entry in entries:
                path = f"{below}/{entry.name}" if below else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if not is_encodable(entry.name):
                        skipped.append(Skipped(printable(path), "a folder whose name is not valid Unicode; rename it"))
                    elif os.path.join(root, path) not in left_out:
                        waiting.append(path)
                    continue
                found = _look(entry, root, path)
                if isinstance(found, File):
                    files.append(found)
                elif found is None:
                    others += 1
                else:
                    skipped.append(Skipped(printable(path), found))
            progress.update(len(entries))
    return Listing(sorted(files), sorted(skipped), others)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder that are not passed over."""
    with os.scandir(folder) as found:
        for entry in found:
            if not entry.name.startswith(".") and entry.name.lower() not in LEFT_BEHIND:
                yield entry


def _look(entry: os.DirEntry[str], root: str, path: str) -> File | str | None:
    """Return a file to read, the reason why one that looks like a medium cannot be used, or None for any other."""
    suspect = looks_like_medium(path) or entry.name in TABLES or path.lower().endswith(PACKED)
    is_link = entry.is_symlink()
    try:
        status = entry.stat()
    except OSError as error:  # a link that leads nowhere or in a circle; or the file has vanished
        return f"a link that leads nowhere ({error.strerror})" if is_link and suspect else None
    if is_link and inside(root, path) is None and os.path.realpath(entry.path) != root:
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "file"
        shown = suspect or kind == "folder"
        return f"a link to a {kind} outside of the folder, which is not followed; copy it into it" if shown else None
    if not stat.S_ISREG(status.st_mode):  # of a pipe, nobody knows when it ends
        return "no plain file" if suspect and not stat.S_ISDIR(status.st_mode) else None
    if not is_encodable(path):
        return "its name is not valid Unicode; rename it" if suspect else None
    try:
        check_id("name", "path", path)
    except ValueError as error:
        return f"its {str(error).removeprefix('name: ')}" if suspect else None
    if not os.access(entry.path, os.R_OK):
        return "may not be read; give your account the right to read it" if suspect else None
    return File(path, status.st_size, status.st_mtime_ns)
