"""What must not be lost when a new data-bin or MODEL folder takes the place of an earlier one.

These are updates of the catalogue, and candidate sets that users added. The latter hold item rows, which may be those of
other items in the new one, so they go by the items' ids.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from cart_fairseq.catalogue.data_bin import CANDIDATES, DataBin
from cart_fairseq.catalogue.errors import read_json
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.segments import MANIFEST


def refuse_older(root: Path, bundle: IdentifierBundle, remedy: str) -> None:
    """Refuse to replace a data-bin by one of an earlier state of its catalogue.

    Args:
        root: the data-bin's folder; there may be none, or a damaged one.
        bundle: the identifiers of the new one.
        remedy: what to do, with {found} for the data-bin's own bundle.

    Raises:
        ValueError: the data-bin's own bundle is a later state of the given one.
    """
    try:
        found = DataBin(root).bundle
    except ValueError:
        return
    if found.fingerprint == bundle.fingerprint and found.revision > bundle.revision:
        raise ValueError(
            f"{root}: its catalogue was updated (revision {found.revision}), and that of {bundle.directory} was not "
            f"(revision {bundle.revision}), so its updates would be lost; {remedy.format(found=found.directory)}"
        )


def own_sets(root: Path, needed: Collection[str]) -> dict[str, pa.StringArray]:
    """The item ids of the candidate sets that users added to a data-bin; nothing if there is no data-bin.

    Args:
        root: the data-bin's folder.
        needed: names of candidate sets that the new data-bin has itself.

    Raises:
        ValueError: such a set has a needed name or is damaged, or the data-bin is, so that the set's items are not known.
    """
    listed = read_json(root / MANIFEST)["files"] if (root / MANIFEST).is_file() else {}
    files = [path for path in root.glob(CANDIDATES.format("*")) if path.is_file() and path.name not in listed]
    if not files or not listed:
        return {}
    before, after = CANDIDATES.split("{}")
    names = [path.name[len(before) : -len(after)] for path in files]
    for path, name in zip(files, names, strict=True):
        if name in needed:
            raise ValueError(f"{path}: is of your own, and the new data-bin needs this name; rename it")
    try:
        data = DataBin(root)
        sets = {name: data.candidates(name) for name in names}
    except ValueError as error:
        raise ValueError(f"{error}; {files[0]} is of your own, so move it away before a new data-bin is made") from None
    return {name: data.bundle.id_column.take(rows).combine_chunks() for name, rows in sets.items() if rows is not None}


def write_own_sets(new: Path, bundle: IdentifierBundle, sets: Mapping[str, pa.StringArray]) -> list[str]:
    """Write candidate sets into a new data-bin, without items that it has not; return remarks for people.

    Args:
        new: its folder.
        bundle: its identifier bundle.
        sets: see `own_sets`.
    """
    notes = []
    for name, ids in sorted(sets.items()):
        rows = sorted(bundle.row_of[each] for each in ids.to_pylist() if each in bundle.row_of)
        if rows:
            np.save(new / CANDIDATES.format(name), np.array(rows, dtype=np.int64), allow_pickle=False)
        kept = f"kept, with {len(rows):,} of its {len(ids):,} items" if rows else "left out: none of its items is left"
        notes.append(f"note: your candidate set {name!r} was {kept}")
    return notes
