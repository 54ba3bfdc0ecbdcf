"""What a dense head needs in a data-bin: the items' embeddings and, joined with captions, the captions' features.

`write_dense` makes it, `update_dense` follows a catalogue that changes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from cart_fairseq.arrays import new_array
from cart_fairseq.catalogue.data_bin import REMEDY, queries_file
from cart_fairseq.catalogue.dense_items import CAPTIONS, EMBEDDINGS
from cart_fairseq.catalogue.errors import reading
from preprocess.data import joined_folder
from preprocess.data.embeddings import Embeddings, blocks, check_embeddings, open_embeddings
from preprocess.data.roles import Caption


class DenseSource(NamedTuple):
    """What a dense head is made from.

    Attributes:
        embeddings: (N, D), of the items.
        captions: (C, T) features, row i for line i of captions.jsonl; None where the embeddings were not joined.
        checksum: of the embeddings.
    """

    embeddings: Embeddings
    captions: np.ndarray | None
    checksum: str


def open_dense(source: Path, items: int, captions: Sequence[dict[str, Any]], index_captions: str) -> DenseSource:
    """Open embeddings, or a folder that `preprocess.join_captions` wrote.

    Args:
        items: N, how many the identifiers have.
        captions: rows of captions.jsonl, those that were joined first; others may follow.
        index_captions: `include` or `exclude`, which the join must have done alike.

    Raises:
        ValueError: the embeddings are damaged, differ in number from the items, or were joined with other captions.
    """
    record = joined_folder.read_record(source) if (source / joined_folder.RECORD).is_file() else None
    path = joined_folder.dense_rows(source)
    embeddings = open_embeddings(path)
    if len(embeddings) != items:
        raise ValueError(
            f"{path}: {len(embeddings)} rows, but the identifiers have {items} items; give the embeddings of the items that "
            "the identifiers were built from"
        )
    checksum = check_embeddings(embeddings, path)
    if record is None:
        return DenseSource(embeddings, None, checksum)
    bad = joined_folder.damage(source, record)
    if bad:
        raise ValueError(f"{source / bad}: missing, or not what {joined_folder.RECORD} says; make the join again")
    if joined_folder.texts_digest(captions[: record["captions"]]) != record["texts"]:
        raise ValueError(
            f"{source}: was joined with other captions; join it with these, or with those that these begin with"
        )
    joined_index = record["settings"].get("index_captions")
    needed = "include" if index_captions == "include" else "exclude"  # borrowed captions do not describe the item
    if joined_index != needed:
        raise ValueError(
            f"{source}: was joined with --index-captions {joined_index}; with {index_captions} here, {needed} is needed there"
        )
    with reading(source / joined_folder.CAPTIONS, joined_folder.REMEDY):
        features = np.load(source / joined_folder.CAPTIONS, mmap_mode="r", allow_pickle=False)
    return DenseSource(embeddings, features, checksum)


def refuse_measured(source: Path, features: np.ndarray, measured: Sequence[Caption]) -> None:
    """Refuse to measure with captions that the items' rows were joined with: they would find their items.

    Args:
        source: of the join.
        features: by line of captions.jsonl, zeros where a caption had no part in the join.

    Raises:
        ValueError: one of the measured captions had.
    """
    lines = np.array([caption.number - 1 for caption in measured], dtype=np.int64)
    lines = lines[lines < len(features)]
    for block in blocks(len(lines), features.shape[1]):
        seen = lines[block][features[lines[block]].any(axis=1)]
        if len(seen):
            raise ValueError(
                f"{source}: was joined with the caption of row {seen[0] + 1}, which is held out for measuring here; give both "
                "commands the same captions, --seed and --valid-size"
            )


def write_dense(directory: Path, source: DenseSource, training: Sequence[Caption]) -> None:
    """Write both files of the data-bin.

    Args:
        source: where it has features of captions, captions beyond the last get zeros.
        training: the training subset, in order.
    """
    embeddings, captions = source.embeddings, source.captions
    out = new_array(directory / EMBEDDINGS, embeddings.dtype, embeddings.shape)
    for block in blocks(*embeddings.shape):
        out[block] = embeddings[block]
    out.flush()
    if captions is None:
        return
    shape = (len(training), captions.shape[1])
    found = new_array(directory / CAPTIONS, captions.dtype, shape)
    lines = np.array([caption.number - 1 for caption in training])
    for block in blocks(*shape):
        there = lines[block] < len(captions)
        found[block][there] = captions[lines[block][there]]
    found.flush()


def update_dense(source: Path, target: Path, items: int, new_row: np.ndarray | None, added: Embeddings | None) -> None:
    """Write to ``target`` what changes of a data-bin's dense files; nothing where it has none.

    Args:
        source: the data-bin as it is.
        items: rows of the catalogue to be.
        new_row: (N,) int64, each item's new row, -1 for one that is no more; None where rows stay as they are.
        added: (n, D) embeddings of the items that join.

    Raises:
        ValueError: the new embeddings are not as wide as the old ones.
    """
    if not (source / EMBEDDINGS).is_file():
        return
    with reading(source / EMBEDDINGS, REMEDY):
        old = np.load(source / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
    if added is not None and added.shape[1] != old.shape[1]:
        raise ValueError(
            f"the new embeddings are {added.shape[1]} wide, those of {source / EMBEDDINGS}, which a dense head reads, "
            f"{old.shape[1]}; give embeddings of the same kind, or binarise anew"
        )
    if items != len(old):
        out = new_array(target / EMBEDDINGS, old.dtype, (items, old.shape[1]))
        parts: list[tuple[Embeddings, np.ndarray]]
        if added is not None:
            parts = [(old, np.arange(len(old))), (added, np.arange(len(old), items))]
        else:
            assert new_row is not None
            parts = [(old, new_row)]
        for rows, places in parts:
            for block in blocks(*rows.shape):
                there = places[block] >= 0
                out[places[block][there]] = rows[block][there]
        out.flush()
    if new_row is not None and (source / CAPTIONS).is_file():
        with reading(source / queries_file("train"), REMEDY):
            rows = pq.read_table(source / queries_file("train"), columns=["item_row"])["item_row"].to_numpy()
            kept = new_row[rows] >= 0
        if not kept.all():
            with reading(source / CAPTIONS, REMEDY):
                features = np.load(source / CAPTIONS, mmap_mode="r", allow_pickle=False)[kept]
            np.save(target / CAPTIONS, features)
