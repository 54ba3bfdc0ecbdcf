"""The working folder of a step, ``OUTPUT.partial``: whose it is, and what may be used again."""

import os
import shutil
from pathlib import Path
from typing import Any

from cart_fairseq.base import files
from cart_fairseq.base.reading import read_json

LOCK, KEY = "lock", "key.json"


def foreign(work: Path) -> str | None:
    """Why a working folder is not of a run of a step; None if it is, is empty, or is not there."""
    if work.is_symlink():
        return "is a link"
    if not work.exists():
        return None
    if not work.is_dir():
        return "is a file"
    lock = work / LOCK
    if any(work.iterdir()) and not (lock.is_file() and not lock.is_symlink() and lock.stat().st_size == 0):
        return f"holds files but no {LOCK!r}"
    for folder, names, others in os.walk(work):
        for name in (*names, *others):
            if os.path.islink(os.path.join(folder, name)):
                return f"holds the link {name!r}"
    return None


def read_key(path: Path) -> Any:
    """What the files of a working folder depend on; None where that is not known, so that they are made again."""
    try:
        return read_json(path) if path.is_file() else None
    except ValueError:
        return None


def refuse_build(path: Path) -> None:
    """Refuse to change an output that a run is building again at this moment.

    Raises:
        ValueError: one is.
    """
    work = path.with_name(f"{path.name}.partial")
    if (work / LOCK).is_file():
        try:
            with files.locked_file(work / LOCK):
                pass
        except FileNotFoundError:  # it has ended
            pass
        except BlockingIOError:
            raise ValueError(f"{work}: another run is building {path}; wait for it or stop it") from None


def empty(work: Path) -> None:
    """Remove the files of a working folder, the key first, so that no later run goes on from half of them."""
    (work / KEY).unlink(missing_ok=True)
    for leftover in work.iterdir():
        if leftover.name != LOCK:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
