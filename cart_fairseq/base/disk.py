"""What must be on the disk before it is promised, and the error for a disk that has no room."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a quota, a limit of file sizes."""
NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES)
"""Errors of file systems that cannot flush a folder, and of folders that may be written to but not read."""
SAID = re.compile(r"\b(?:os error|[Ee]rrno) (\d+)")
CUT_OFF = re.compile(
    r"requested and \d+ written|PytorchStreamWriter failed writing|file write failed|iostream error|unexpected pos \d+ vs \d+"
)
"""What numpy and torch say when a write was cut short; they do not say why."""
BLOCK = bytes(1 << 20)


def flush(path: str | os.PathLike[str]) -> None:
    """Wait until a file, or the list of a folder's entries, is on the disk."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise
    finally:
        os.close(file)


def flush_tree(path: str | os.PathLike[str]) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            inner = os.path.join(folder, name)
            if not os.path.islink(inner):
                flush(inner)
        flush(folder)
    if not os.path.isdir(path):
        flush(path)


def rename(source: Path, target: Path) -> None:
    """Rename a file or folder and wait until that is on the disk; a file in its place is replaced."""
    os.replace(source, target)
    for folder in {source.parent, target.parent}:
        with contextlib.suppress(PermissionError):
            flush(folder)


def reserve(file: int, size: int) -> None:
    """Take the room for the first ``size`` bytes of an open file; those beyond its end read as zeros.

    A memory map of a file without room ends the process with SIGBUS when it is written to.

    Raises:
        OSError: there is no room.
    """
    try:
        os.posix_fallocate(file, 0, size)
    except (AttributeError, OSError) as error:  # macOS, and file systems that cannot
        if getattr(error, "errno", None) in (*NO_ROOM, errno.EINTR):
            raise
        written = os.fstat(file).st_size
        while written < size:
            written += os.pwrite(file, BLOCK[: size - written], written)


def no_room(error: BaseException) -> int | None:
    """Return the system's number of an error that says that there is no room; None for any other.

    Libraries have errors of their own for it, some with the number in the message, some with none.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in NO_ROOM else None
    said = SAID.search(str(error))
    if said:
        return int(said[1]) if int(said[1]) in NO_ROOM else None
    return errno.ENOSPC if CUT_OFF.search(str(error)) else None


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file that is written in the error for a disk without room.

    Raises:
        OSError: the block had no room; it has the number, the reason and ``path``.
    """
    try:
        yield
    except Exception as error:
        number = no_room(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error
