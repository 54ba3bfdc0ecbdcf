"""Joins items that are new to a data-bin with their captions, as the items were joined that it was made from."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import reading
from preprocess.data.embeddings import check_embeddings, open_embeddings
from preprocess.data.inputs import ItemsFile, match_items, read_captions
from preprocess.data.joined_folder import (
    ALIGNED,
    ITEMS,
    ORIGINALS,
    RECORD,
    REMEDY,
    dense_rows,
    identifier_rows,
    originals_of,
    read_parts,
    read_record,
    refuse_other_items,
)
from preprocess.data.roles import Caption, assign, resolve
from preprocess.encoders.loading import refuse_absent
from preprocess.join.fitting import restore_parts
from preprocess.join.rows import embed, write_items
from preprocess.join.settings import JoinSettings
from preprocess.join.text_space import ItemTexts


class NewRows(NamedTuple):
    """Where the rows of new items lie.

    Attributes:
        identifiers: the embeddings that identifiers are made from.
        dense: those that a dense head reads; the same path where there was no join.
        originals: (n, E), the embeddings from before a join; None without a join.
    """

    identifiers: Path
    dense: Path
    originals: np.ndarray | None


@contextmanager
def joined_rows(
    data_bin: Path | None, embeddings: Path, items: Path, captions: Path | None, column: str
) -> Iterator[NewRows]:
    """Give the rows of new items; join them in a temporary folder where the data-bin was made from a join.

    Args:
        data_bin: the data-bin that is updated; None for a bundle alone.
        embeddings: of the new items, or a join of them.
        items: their `items.jsonl`.
        captions: their `captions.jsonl`; None for items without captions.
        column: column of tables that has the embeddings.

    Raises:
        ValueError: a file is wrong, the embeddings have another width than those of the join, or captions are given
            where nothing is joined.
    """
    parts_in = None if data_bin is None else DataBin(data_bin).directory
    if (embeddings / RECORD).is_file() or parts_in is None or not (parts_in / RECORD).is_file():
        if captions is not None:
            raise ValueError(
                f"--captions {captions} is for embeddings from before a join, and for a data-bin that was made from a join; "
                "leave it out"
            )
        joined = (embeddings / RECORD).is_file()
        if joined:
            refuse_other_items(embeddings, (item["item_id"] for item in ItemsFile(items)), items)
        originals = originals_of(embeddings) if joined else None
        yield NewRows(identifier_rows(embeddings), dense_rows(embeddings), originals)
        return
    with tempfile.TemporaryDirectory(prefix="joined-") as folder:
        _join(parts_in, embeddings, items, captions, column, Path(folder))
        rows = Path(folder)
        aligned = rows / ALIGNED
        originals = np.load(rows / ORIGINALS, mmap_mode="r", allow_pickle=False)
        yield NewRows(aligned if aligned.is_file() else rows / ITEMS, rows / ITEMS, originals)


def _join(parts_in: Path, embeddings: Path, items: Path, captions: Path | None, column: str, folder: Path) -> None:
    """Write the joined rows of new items."""
    record = read_record(parts_in)
    with reading(parts_in / RECORD, REMEDY):
        settings = JoinSettings().following(record["settings"])
    vectors = open_embeddings(embeddings, column, check=False)
    if vectors.shape[1] != record["dimension"]:
        raise ValueError(
            f"{embeddings}: width {vectors.shape[1]}, but the data-bin was made from embeddings of width "
            f"{record['dimension']}; extract them in the same way, or give a join made with join_captions --like"
        )
    records = ItemsFile(items)
    match_items(vectors, records, embeddings, items)
    check_embeddings(vectors, embeddings)
    used: list[Caption] = []
    if captions is not None:
        row_of = {item["item_id"]: row for row, item in enumerate(records)}
        splits = [item.get("split") for item in records]
        resolved = resolve(read_captions(captions, records), row_of, splits, str(captions))
        used = assign(resolved, settings.index_captions or "include")["train"]
    if used and settings.encoder:
        refuse_absent(settings.encoder, record["settings"].get("weights"), str(parts_in / RECORD))
    parts = restore_parts(read_parts(parts_in, record), settings, texts=bool(used))
    width = len(parts.centre)
    values = embed(parts.features, used, folder / "work") if parts.features else np.zeros((0, width), dtype=np.float32)
    owners = np.array([caption.item_row for caption in used], dtype=np.int64)
    write_items(folder, vectors, ItemTexts(values, owners, len(vectors)), parts, settings.block_rows)
