"""Brings a change of a catalogue into force, in its bundle and in the data-bin around it.

An operation writes new files beside the old ones and returns a `Change`. `apply_change` then writes what follows in the
data-bin, replaces the bundle's manifest, which is the moment from which the new state counts, and tidies up. A journal
in the bundle lets a repeated command recognise that it was killed after that moment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.files import write_json
from cart_fairseq.base.hub_cache import refuse_cached
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.checksums import sealed
from cart_fairseq.catalogue.data_bin import DataBin, pending_folder
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.segments import read_manifest
from preprocess.data.working_folder import refuse_build
from preprocess.data_bin.dense import DenseRows
from preprocess.updating.bundle import MANIFEST, finish_bundle, locked, refuse_links
from preprocess.updating.data_bin import finish_data_bin, write_pending
from preprocess.updating.journal import JOURNAL, forget_names, note, note_names, read_journal


@dataclass(frozen=True)
class Target:
    """What is updated.

    Attributes:
        identifiers: the identifier bundle.
        data_bin: the data-bin that it belongs to, if any.
    """

    identifiers: Path
    data_bin: Path | None = None

    @classmethod
    def at(cls, path: Path) -> "Target":
        """The data-bin or identifier bundle in a folder.

        Raises:
            ValueError: there is neither, the data-bin is damaged, or the bundle belongs to a data-bin; or the folder is in
                the Hub's cache.
        """
        refuse_cached(path)
        if is_data_bin(path) or (path / "identifiers").is_dir():
            DataBin(path)  # says what is wrong with it before anything is read or changed
            return cls(path / "identifiers", path)
        if not (path / MANIFEST).is_file():
            raise ValueError(f"{path}: no {MANIFEST}, so neither an identifier bundle nor a data-bin; check the path")
        if is_data_bin(path.parent):
            raise ValueError(f"{path}: belongs to the data-bin {path.parent}; update that with --data-bin")
        return cls(path)

    def finish(self) -> None:
        """Finish an update that a killed run left after it had come into force, and remove what others left."""
        if self.data_bin:
            finish_data_bin(self.data_bin)
        finish_bundle(self.identifiers)
        forget_names(self.identifiers)


def is_data_bin(folder: Path) -> bool:
    """Whether a folder is a data-bin, in any state."""
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    return isinstance(manifest, dict) and manifest.get("kind") == "data-bin"


@dataclass(frozen=True)
class Change:
    """What an operation changes, once its new files are written.

    Attributes:
        manifest: of the bundle after the change.
        new_row: (N,) int64, new row of each item, -1 for one that leaves; None where rows stay as they are.
        summary: for people.
        added: rows of the items that join.
    """

    manifest: dict[str, Any]
    new_row: NDArray[np.int64] | None
    summary: str
    added: DenseRows | None = None


@dataclass(frozen=True)
class Updated:
    """What `add`, `remove` or `compact` has done.

    Attributes:
        bundle: the identifier bundle after the update, opened.
        changed: whether there was anything to do.
        summary: the result as text.
    """

    bundle: IdentifierBundle
    changed: bool
    summary: str


def apply_change(target: Target, key: str, operation: Callable[[IdentifierBundle], Change | None]) -> Updated:
    """Run an operation on a bundle, and on the data-bin around it, if any.

    Args:
        key: names the operation and its input, so that a command that was killed at its very end is not done twice.
        operation: writes new files and returns the change; None where there is nothing to compact.

    Raises:
        ValueError: another process is updating the bundle, or the operation cannot be done.
    """
    identifiers = target.identifiers
    read_manifest(identifiers)
    if target.data_bin:
        refuse_links(target.data_bin)
    with locked(identifiers):
        refuse_build((target.data_bin or identifiers).resolve())
        target.finish()
        bundle = IdentifierBundle.load(identifiers)
        journal, begun = identifiers / JOURNAL, read_journal(identifiers)
        if begun.get("key") == key and begun.get("state") == bundle.state:
            journal.unlink()
            text = f"{identifiers}: finished what an interrupted run had begun\n{begun['summary']}"
            return Updated(bundle, True, text)
        bundle.verify()  # what is written on from a damaged file would get a checksum as if it were whole
        change = operation(bundle)
        if change is None:
            return Updated(bundle, False, f"{identifiers}: nothing to compact")
        after = IdentifierBundle.load(identifiers, change.manifest)
        if target.data_bin:
            note_names(identifiers, [pending_folder(target.data_bin, after.state).name])
            write_pending(DataBin(target.data_bin), after, change.new_row, change.added)
        note(identifiers, key=key, state=after.state, summary=change.summary)
        write_json(identifiers / MANIFEST, sealed(change.manifest))  # from here on the new state counts
        target.finish()
        journal.unlink()
        return Updated(IdentifierBundle.load(identifiers), True, change.summary)
