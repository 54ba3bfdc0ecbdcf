"""Reading media files: whatever is wrong with one becomes a `MediaError` that names it, and none takes longer than it may."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from cart_fairseq.base.reading import unreadable

REPLACE = "replace the file or leave it out"
"""The remedy for a file of an item, or of a query."""
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Let reading media inside end with a ValueError that takes longer; None: however long it takes."""
    token = _deadline.set(math.inf if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def refuse_late() -> None:
    """Raise ValueError if reading takes longer than :func:`within` allows; called for each frame or block."""
    if time.monotonic() > _deadline.get():
        raise ValueError("it takes too long to read")


class MediaError(ValueError):
    """A media file is missing, damaged or has not what is asked for; the message names it and the remedy."""


def refuse_missing(path: str | Path, remedy: str) -> None:
    """Refuse a path without a file.

    Args:
        remedy: what is missing, and what to do.

    Raises:
        MediaError: there is nothing, or something else than a file, or the system refuses the path.
    """
    path = Path(path)
    try:
        if path.is_file():
            return
        found = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else None
    except OSError as error:  # such as a name that is too long, or a folder that may not be entered
        raise MediaError(str(unreadable(path, error))) from None
    raise MediaError(f"{path}: {found}; give a file" if found else f"{path}: no such {remedy}")


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a `MediaError` that names the file.

    Args:
        path: the file.
        kind: image, audio or video, for the message.
    """
    refuse_missing(path, f"{kind} file; check the item's media path, which is relative to its list")
    try:
        yield
    except ImportError as error:
        raise MediaError(
            f"{path}: reading {kind} files needs {error.name}; pip install 'cart-fairseq[media]'"
        ) from None
    except MediaError:
        raise
    # Decoders of damaged files raise whatever they stumble on: OSError, ValueError, SyntaxError, struct.error …
    except Exception as error:
        raise damaged(path, kind, error) from None


def damaged(path: str | Path, kind: str, error: Exception) -> MediaError:
    """The error for a file that its library cannot read."""
    found = " ".join(str(error).split()) or type(error).__name__
    return MediaError(f"{path}: not a readable {kind} file ({found}); {REPLACE}")
