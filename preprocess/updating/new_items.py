"""What `update_identifiers add` reads: items that are to join a catalogue, checked."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cart_fairseq.base.files import digest
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.data.embeddings import Embeddings, check_embeddings, open_embeddings
from preprocess.data.inputs import ItemsFile, match_items
from preprocess.data.joined_folder import identifier_rows
from preprocess.data_bin.dense import DenseRows
from preprocess.updating.joining import NewRows
from preprocess.updating.settings import AddSettings


@dataclass(frozen=True)
class NewItems:
    """Items that are to join a catalogue.

    Attributes:
        items: n of them.
        embeddings: (n, D), of the width that the codec was fitted on.
        dense: what a dense head reads of them.
        reference: (m, D) embeddings of old items to compare with, if any.
        key: stands for all of it.
    """

    items: ItemsFile
    embeddings: Embeddings
    dense: DenseRows
    reference: Embeddings | None
    key: str

    @classmethod
    def read(cls, bundle: IdentifierBundle, given: NewRows, items: Path, settings: AddSettings) -> "NewItems":
        """Open and check the files.

        Args:
            bundle: of the catalogue.
            given: where their rows lie.
            items: their `items.jsonl`.

        Raises:
            ValueError: a file is damaged, they differ in number, or the width is not that of the bundle's embeddings.
        """
        path = given.identifiers
        rows = open_embeddings(path, settings.embedding_column, check=False)
        refuse_other_width(bundle, path, rows)
        records = ItemsFile(items)
        match_items(rows, records, path, items)
        reference = None
        if settings.reference:
            reference_path = identifier_rows(Path(settings.reference))
            reference = open_embeddings(reference_path, settings.embedding_column)
            refuse_other_width(bundle, reference_path, reference)
        checksums = [check_embeddings(rows, path)]
        dense = DenseRows(rows, None)
        if given.dense != path or given.originals is not None:
            dense = DenseRows(open_embeddings(given.dense, check=False), given.originals)
            checksums.append(check_embeddings(dense.features, given.dense))
        key = digest(["add", *checksums, [item["item_id"] for item in records]])
        return cls(records, rows, dense, reference, key)


def refuse_other_width(bundle: IdentifierBundle, path: Path, embeddings: Embeddings) -> None:
    """Raise for embeddings of another width than those that the bundle was built from."""
    width = bundle.codec_settings.get("dimension")
    if embeddings.shape[1] != width:
        raise ValueError(
            f"{path}: width {embeddings.shape[1]}, but the identifiers in {bundle.directory} were built from embeddings "
            f"of width {width}; extract them in the same way"
        )


class KnownItem(ValueError):
    """An item to add is in the catalogue already."""


def refuse_known(bundle: IdentifierBundle, items: ItemsFile) -> None:
    """Raise for an item that is in the catalogue. One that was removed may come back, under a new identifier."""
    new = pa.array((item["item_id"] for item in items), pa.string())
    same = np.flatnonzero(pc.is_in(bundle.id_column, value_set=new).to_numpy())
    same = same[~np.isin(same, bundle.removed)]
    if len(same):
        row = pc.index(new, bundle.id_column[same[0]]).as_py()
        raise KnownItem(
            f"{items.path}, row {row + 1}: item_id {new[row].as_py()!r} is already in the catalogue ({len(same)} of "
            f"{len(new)} items are); leave it out, or remove the old one first"
        )
