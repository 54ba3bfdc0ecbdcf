"""Stored arrays of earlier states of a catalogue, which no search that opens the data-bin now can use.

Each folder of stored arrays has a note of what it was made for. Folders for other checkpoints but the present catalogue
stay, and so do those without a note, which earlier versions wrote.
"""

import contextlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cart_fairseq.base.files import remove_scratch, write_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError, read_json
from cart_fairseq.search.dense.stored_arrays import STORED, may_be_read

NOTE = "made_for.json"
IDENTIFIERS, EMBEDDINGS = "identifiers", "embeddings"
"""Fields of a note: the state of the identifier bundle, and the checksum of the items' embeddings."""
FOLDER = re.compile(r"(?:[a-z]+\.)?[0-9a-f]{16}")
T = TypeVar("T")


def note_made_for(folder: Path, data: DataBin, fields: Sequence[str]) -> None:
    """Note which state of a data-bin with embeddings stored arrays are for, unless it is noted.

    Args:
        folder: of the arrays.
        data: the data-bin.
        fields: what of the data-bin the arrays depend on.

    Raises:
        OSError: the folder cannot be written to.
    """
    if not folder.is_dir():
        return
    remove_scratch(folder)  # of a process that was killed while it wrote the note
    if not (folder / NOTE).is_file():
        state = _state_of(data)
        write_json(folder / NOTE, {field: state[field] for field in fields})


def remove_outdated(root: Path) -> None:
    """Remove stored arrays of a data-bin that are for another state of its catalogue than the present one.

    A reader that has such arrays open keeps them; one that has yet to open them computes what it needs. What cannot be
    removed stays.
    """
    folder = root / STORED
    if folder.is_symlink() or not folder.is_dir():
        return
    with contextlib.suppress(OSError, CatalogueError):
        # listed before the state is read, so that nothing that another process writes for a later state is among them
        found = [each for each in folder.iterdir() if FOLDER.fullmatch(each.name) and not each.is_symlink()]
        state = _state_of(DataBin(root))
        for each in found:
            if _is_outdated(each, state):
                _remove(each)


def opened_if_there(folder: Path, opening: Callable[[], T]) -> T | None:
    """Open stored arrays; None if there are none, if they may not be read, or if they were removed while they were opened.

    Raises:
        CatalogueError: they are damaged.
    """
    if not may_be_read(folder):
        return None
    try:
        return opening()
    except CatalogueError:
        if folder.is_dir():
            raise
        return None


def _state_of(data: DataBin) -> dict[str, str]:
    items = data.dense_items
    return {IDENTIFIERS: data.bundle.state, EMBEDDINGS: "" if items is None else items.checksum}


def _is_outdated(folder: Path, state: Mapping[str, str]) -> bool:
    try:
        noted = read_json(folder / NOTE)
    except CatalogueError:
        return False
    return isinstance(noted, dict) and any(noted.get(field, value) != value for field, value in state.items())


def _remove(folder: Path) -> None:
    """Remove a folder, whole at once, so that no reader finds half of it."""
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent, ignore_cleanup_errors=True
    ) as scratch:
        folder.rename(Path(scratch, folder.name))
