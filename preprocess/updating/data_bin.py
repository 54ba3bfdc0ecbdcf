"""Carries an update of a data-bin's identifier bundle to the files that follow from it.

Those are the trie, the candidate sets, the subsets where items were removed or renumbered, a dense head's embeddings, and
the manifest. All of them are written into one folder (:mod:`cart_fairseq.catalogue.data_bin`). The folder is the data-bin
from the moment when the bundle's new manifest is in place; `finish_data_bin` moves its files up.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from cart_fairseq.base import disk
from cart_fairseq.base.files import is_plain_name, remove_scratch, replacing, write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.checksums import sealed
from cart_fairseq.catalogue.data_bin import CANDIDATES, PENDING, TRIE, DataBin, build_trie, pending_folder
from cart_fairseq.catalogue.dense_items import EMBEDDINGS, ORIGINALS
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.segments import file_entry
from cart_fairseq.search.dense.outdated import remove_outdated
from preprocess.data.fields import MEASURED
from preprocess.data.roles import candidate_rows
from preprocess.data_bin.dense import DenseRows, update_dense
from preprocess.data_bin.subsets import files_of, keep_rows
from preprocess.updating.bundle import MANIFEST, link_over
from preprocess.updating.journal import noted_names

MOVED_UP = ".{}.tmp"
"""Name of the folder of an update when its files were moved up."""


def write_pending(
    data: DataBin, after: IdentifierBundle, new_row: np.ndarray | None, added: DenseRows | None = None
) -> None:
    """Write the files of a data-bin that go with its bundle as it is about to be.

    Args:
        data: the data-bin, without a pending update.
        after: its bundle after the update.
        new_row: (N,) int64, each item's new row, -1 for an item that is no more; None where rows stay as they are.
        added: rows of the items that join.

    Raises:
        ValueError: a dense head reads embeddings of another width, or something that is not of the data-bin has a name
            that its files need.
    """
    root = data.directory
    if new_row is not None:
        data.verify()
    elif EMBEDDINGS in data.files:
        data.verify([name for name in (EMBEDDINGS, ORIGINALS) if name in data.files])
    made = made_sets(data, after)
    refuse_occupied(data, [TRIE, *map(CANDIDATES.format, made)])
    sets = made | own_sets(data, made, new_row)
    counts = {subset: dict(count) for subset, count in data.manifest["counts"].items()}
    dropped: set[str] = set()
    with replacing(pending_folder(root, after.state), directory=True) as new:
        (new / "identifiers").symlink_to(Path("..") / "identifiers")
        build_trie(after).save(new / TRIE, after.state)
        for name, rows in sets.items():
            np.save(new / CANDIDATES.format(name), rows, allow_pickle=False)
        for subset, count in list(counts.items()):
            if new_row is not None:
                count["queries"] = keep_rows(root, new, subset, new_row)
            count["candidates"] = len(sets.get(subset, sets["all"]))
            if not count["queries"]:
                del counts[subset]
                dropped |= set(files_of(subset))
        if EMBEDDINGS in data.manifest["files"]:
            update_dense(root, new, len(after), new_row, added)
        entries = {name: entry for name, entry in data.manifest["files"].items() if "/" not in name}
        for name in sorted(entries.keys() - dropped):
            if not (new / name).exists():
                link_over(root / name, new / name)
        entries = {name: entry for name, entry in entries.items() if name not in dropped}
        ours = entries.keys() | {TRIE, *map(CANDIDATES.format, made)}  # not the user's sets
        files = {
            path.name: entries[path.name] if is_unchanged(path, root, entries) else file_entry(path)
            for path in sorted(new.iterdir())
            if path.name in ours
        }
        manifest = {**data.manifest, "identifiers": after.state, "counts": counts, "files": files}
        write_json(new / MANIFEST, sealed(manifest))


def refuse_occupied(data: DataBin, names: Sequence[str]) -> None:
    """Refuse an update that would write a file of the data-bin over something that is not.

    Raises:
        ValueError: there is such a thing; the message names it.
    """
    for name in names:
        path = data.root / name
        if name not in data.manifest["files"] and os.path.lexists(path):
            raise ValueError(
                f"{path}: is not of binarize, and the data-bin needs this name now; rename it, then run the command again"
            )


def is_unchanged(path: Path, root: Path, entries: dict[str, Any]) -> bool:
    """Whether a file is the one that the data-bin's manifest has an entry for."""
    return path.name in entries and path.samefile(root / path.name)


def made_sets(data: DataBin, after: IdentifierBundle) -> dict[str, np.ndarray]:
    """The candidate sets that binarising makes, after the update: name -> (C,) int64, ascending.

    They follow from the items' splits. Without items of a split, a set of this name is the user's own.
    """
    sets = {"all": after.kept}
    for subset in MEASURED:
        listed = CANDIDATES.format(subset) in data.manifest["files"]
        if listed or pc.any(pc.equal(after.split_column, subset)).as_py():
            held_out = subset == "valid" and data.manifest["valid_held_out"]
            sets[subset] = candidate_rows(after.split_column, subset, held_out, after.removed)
    return sets


def own_sets(data: DataBin, made: Iterable[str], new_row: np.ndarray | None) -> dict[str, np.ndarray]:
    """The user's candidate sets without the items that are removed: name -> (C,) int64, ascending."""
    sets = {}
    for name in set(data.candidate_names) - set(made):
        rows = data.candidates(name)
        assert rows is not None
        rows = rows if new_row is None else new_row[rows]
        sets[name] = rows[rows >= 0]
    return sets


def finish_data_bin(root: Path) -> None:
    """Move the files of a complete update up, and remove what is left over. May be killed and repeated."""
    data = DataBin(root)
    remove_scratch(root)
    if data.directory != root:
        before = read_json(root / MANIFEST)["files"]
        for name in before.keys() - data.manifest["files"].keys():
            if is_plain_name(name):
                (root / name).unlink(missing_ok=True)
        for path in sorted(data.directory.iterdir()):
            if path.is_file() and not path.is_symlink():
                link_over(path, root / path.name)
        disk.rename(data.directory, root / MOVED_UP.format(data.directory.name))
        shutil.rmtree(root / MOVED_UP.format(data.directory.name))
    for name in noted_names(data.bundle.directory):
        for folder in (root / name, root / MOVED_UP.format(name)):
            if name.startswith(PENDING) and folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
    remove_scratch(root)
    remove_outdated(root)
