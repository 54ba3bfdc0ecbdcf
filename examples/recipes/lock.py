"""The lock of a run: two at once on one OUT would write the same checkpoints and figures."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "lock"


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
            holder = os.read(lock, 1000).decode(errors="replace") or "another process"
            raise ValueError(
                f"{out}: {holder} is at work there; wait until it ends, stop it, or choose another OUT"
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
