"""The locks of a run: two at once on one OUT would write the same checkpoints and figures."""

import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cart_fairseq.base import files

NAME = "lock"
PATIENCE = 5.0


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other commands from the folder `out`, which is made if need be. Training inherits the lock.

    It is the kernel's lock of the folder itself, so that no file is needed. File systems without such locks have the lock
    of each step alone.

    Raises:
        ValueError: another command has the lock.
    """
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.set_inheritable(folder, True)
        try:
            lock_soon(folder)
        except BlockingIOError:
            raise ValueError(
                f"{out}: {holder_of(out)} is at work there; wait until it ends, stop it, or choose another OUT"
            ) from None
        except OSError as error:
            if error.errno not in (*files.NO_LOCKS, errno.EBADF):
                raise
        yield
    finally:
        os.close(folder)
        if is_new:
            with suppress(OSError):  # it holds something
                out.rmdir()


def lock_soon(file: int) -> None:
    """Lock an open file or folder. The training of a command that was killed may need a moment to end.

    Raises:
        BlockingIOError: another process still has the lock after `PATIENCE` seconds.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def holder_of(out: Path) -> str:
    """Which process is at work, as far as it is known."""
    with suppress(OSError):
        return (out / "checkpoints" / NAME).read_text(errors="replace")[:1000] or "another process"
    return "another process"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other runs from `out`. It is the kernel's lock, freed when its holder ends, however it ends.

    ``OUT/checkpoints/lock`` names the holder while there is one. Training inherits the open file: should the recipe be
    killed, the lock lasts until its training has ended, too.

    Raises:
        ValueError: another run has the lock.
    """
    path = out / "checkpoints" / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{out}: {holder_of(out)} is at work there; wait until it ends, stop it, or choose another OUT"
            ) from None
        os.set_inheritable(lock, True)
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {platform.node()}".encode())
        try:
            yield
        finally:
            os.ftruncate(lock, 0)
    finally:
        os.close(lock)
