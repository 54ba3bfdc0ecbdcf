"""Files of a folder that are opened at once and read later, whatever takes their names in between.

An update replaces files one after the other. A reader that opened each file when it needs it would mix states.
"""

import os
import stat
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from cart_fairseq.base.reading import unreadable
from cart_fairseq.catalogue import errors
from cart_fairseq.catalogue.errors import CatalogueError

DESCRIPTORS = Path("/proc/self/fd")
OPENS_ANEW = DESCRIPTORS.is_dir()
"""Whether opening a descriptor's path gives a position in the file of its own, as on Linux."""
TRIES, PAUSE = 100, 0.01
Stamp = tuple[object, ...]
T = TypeVar("T")


class HeldFiles:
    """Files of one folder, held open as long as this object lives.

    Args:
        folder: the folder.
        names: of files in it, relative.
        remedy: the last part of messages.

    Raises:
        CatalogueError: a file is missing or cannot be read; the message names it.
    """

    def __init__(self, folder: Path, names: Iterable[str], remedy: str):
        self.folder = folder
        self.remedy = remedy
        self._held: dict[str, int] = {}
        weakref.finalize(self, _close, self._held)
        for name in names:
            self._hold(name)

    def _hold(self, name: str) -> None:
        path = self.folder / name
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for a writer
        except (FileNotFoundError, NotADirectoryError):
            raise CatalogueError(f"{path}: missing, though the manifest lists it; {self.remedy}") from None
        except OSError as error:
            raise CatalogueError(str(unreadable(path, error, self.remedy))) from None
        self._held[name] = file
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise CatalogueError(f"{path}: is no file; {self.remedy}")

    def __reduce__(self) -> Any:
        # a pickle would have the numbers of descriptors, which are other files in another process
        raise TypeError(f"{self.folder}: open files are not pickled; pickle the data-bin, which is opened again")

    def __contains__(self, name: str) -> bool:
        return name in self._held

    @property
    def names(self) -> list[str]:
        """The names of the files, sorted."""
        return sorted(self._held)

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return os.fstat(self._held[name]).st_size

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """Yield a path by which libraries read a held file.

        Raises:
            CatalogueError: the block raised an error for a damaged file; the message has the file's name.
        """
        path = self.folder / name
        if name not in self._held:
            raise CatalogueError(f"{path}: not among the files that the manifest lists; {self.remedy}")
        held = self._held[name]
        if not OPENS_ANEW:
            os.lseek(held, 0, os.SEEK_SET)
        anew = DESCRIPTORS / str(held) if OPENS_ANEW else Path("/dev/fd", str(held))
        try:
            with errors.reading(path, self.remedy):
                yield anew
        except CatalogueError as error:
            raise CatalogueError(str(error).replace(str(anew), str(path))) from None


def _close(held: dict[str, int]) -> None:
    for file in held.values():
        os.close(file)


def identity(path: Path) -> Stamp | None:
    """Return what tells a file or folder from its successors of the same name; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    content = () if stat.S_ISDIR(found.st_mode) else (found.st_mtime_ns, found.st_size)
    return (found.st_dev, found.st_ino, *content)


def open_settled(path: Path, stamp: Callable[[], Stamp], opening: Callable[[], T]) -> T:
    """Open several files that belong together, again and again until they stayed as they were meanwhile.

    Args:
        path: what is opened, for the message.
        stamp: returns what changes with the state of the files.
        opening: opens them.

    Raises:
        CatalogueError: ``opening`` raised it although nothing changed, or something changed each time.
    """
    for _ in range(TRIES):
        before = stamp()
        try:
            found = opening()
        except CatalogueError:
            time.sleep(PAUSE)  # a folder that is replaced has no name for a moment
            if stamp() == before:
                raise
            continue
        if stamp() == before:
            return found
    raise CatalogueError(f"{path}: was changed again and again while it was opened; open it when the updates are done")
