"""The cache of the Hugging Face Hub, whose files all programs share: they are read, and never changed.

A snapshot is a folder ``models--OWNER--NAME/snapshots/COMMIT``, mostly of links to the files.
"""

import errno
from pathlib import Path

SNAPSHOTS = "snapshots"
COPY = (
    "is in the cache of the Hugging Face Hub, whose files stay as they were published; change a copy: cp -rL {} MODEL"
)


def snapshot_of(path: str | Path) -> Path | None:
    """Return the snapshot that a path is, or is in; None if it is not in the cache."""
    whole = Path(path).resolve()
    for folder in (whole, *whole.parents):
        if folder.parent.name == SNAPSHOTS and folder.parent.parent.name.startswith("models--"):
            return folder
    return None


def refuse_cached(path: str | Path) -> None:
    """Refuse to write into the cache.

    Raises:
        ValueError: a path is in it.
    """
    found = snapshot_of(path)
    if found is not None:
        raise ValueError(f"{path}: {COPY.format(found)}")


def refuse_writing(path: str | Path) -> None:
    """Refuse to write files into the cache that a search can do without.

    Raises:
        OSError: a path is in it.
    """
    found = snapshot_of(path)
    if found is not None:
        raise OSError(errno.EROFS, COPY.format(found), str(path))
