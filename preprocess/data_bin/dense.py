"""What a dense head needs in a data-bin: the items' embeddings and, joined with captions, the captions' features.

`write_dense` makes it, `update_dense` follows a catalogue that changes.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.parquet import read_table
from cart_fairseq.catalogue.data_bin import REMEDY, DataBin, queries_file
from cart_fairseq.catalogue.dense_items import CAPTIONS, EMBEDDINGS, ORIGINALS
from cart_fairseq.catalogue.errors import reading
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.data import joined_folder
from preprocess.data.embeddings import Embeddings, blocks, check_embeddings, open_embeddings
from preprocess.data.roles import Caption
from preprocess.encoders.embedded_files import encoder_of


class DenseSource(NamedTuple):
    """What a dense head is made from.

    Attributes:
        embeddings: (N, D), of the items.
        captions: (C, T) features, row i for line i of captions.jsonl; None where the embeddings were not joined.
        checksum: of the embeddings.
        originals: (N, E), the embeddings from before a join; None where they were not joined.
        encoder: what the embeddings were extracted with, if that is known.
        parts: the files of a join's fitted parts, with which items that are added later are joined.
    """

    embeddings: Embeddings
    captions: np.ndarray | None
    checksum: str
    originals: np.ndarray | None = None
    encoder: dict[str, Any] | None = None
    parts: Sequence[Path] = ()


class DenseRows(NamedTuple):
    """Rows of items that join a catalogue.

    Attributes:
        features: (n, D), what a dense head reads.
        originals: (n, E), the embeddings from before a join; None where they were not joined.
    """

    features: Embeddings
    originals: Embeddings | None


def open_dense(
    source: Path, bundle: IdentifierBundle, captions: Sequence[dict[str, Any]], index_captions: str
) -> DenseSource:
    """Open embeddings, or a folder that `preprocess.join_captions` wrote.

    Args:
        bundle: the identifiers of the N items.
        captions: rows of captions.jsonl, those that were joined first; others may follow.
        index_captions: `include` or `exclude`, which the join must have done alike.

    Raises:
        ValueError: the embeddings are damaged, differ in number from the items, or were joined with other items or captions.
    """
    record = joined_folder.read_record(source) if (source / joined_folder.RECORD).is_file() else None
    path = joined_folder.dense_rows(source)
    embeddings = open_embeddings(path)
    if len(embeddings) != len(bundle):
        raise ValueError(
            f"{path}: {len(embeddings)} rows, but the identifiers have {len(bundle)} items; give the embeddings of the items that "
            "the identifiers were built from"
        )
    checksum = check_embeddings(embeddings, path)
    if record is None:
        return DenseSource(embeddings, None, checksum, encoder=encoder_of(path))
    bad = joined_folder.damage(source, record)
    if bad:
        raise ValueError(f"{source / bad}: missing, or not what {joined_folder.RECORD} says; make the join again")
    joined_folder.refuse_other_items(source, bundle.item_ids, bundle.directory)
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
    originals = joined_folder.originals_of(source)
    parts = [source / name for name in joined_folder.FITTED_PARTS if name in {*record["files"], joined_folder.RECORD}]
    return DenseSource(embeddings, features, checksum, originals, record.get("encoder"), parts)


def refuse_other_fit(source: Path, other: DataBin) -> None:
    """Refuse rows that were joined otherwise than those of the data-bin whose checkpoints are to read them.

    Raises:
        ValueError: both were joined, and their fitted parts differ.
    """
    recorded = [folder / joined_folder.RECORD for folder in (source, other.directory)]
    if not all(path.is_file() for path in recorded):
        return
    parts = [joined_folder.read_record(path.parent)["files"].get(joined_folder.PARTS) for path in recorded]
    if parts[0] != parts[1]:
        raise ValueError(
            f"{source}: was not joined as the items of {other.directory} were, whose checkpoints would read its rows as "
            "something else; make it with join_captions --like and the join of that data-bin"
        )


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
    captions = source.captions
    for name, rows in ((EMBEDDINGS, source.embeddings), (ORIGINALS, source.originals)):
        if rows is not None:
            out = new_array(directory / name, rows.dtype, rows.shape)
            for block in blocks(*rows.shape):
                out[block] = rows[block]
            out.flush()
    for path in source.parts:
        shutil.copyfile(path, directory / path.name)
    if captions is None:
        return
    shape = (len(training), captions.shape[1])
    found = new_array(directory / CAPTIONS, captions.dtype, shape)
    lines = np.array([caption.number - 1 for caption in training])
    for block in blocks(*shape):
        there = lines[block] < len(captions)
        found[block][there] = captions[lines[block][there]]
    found.flush()


def update_dense(source: Path, target: Path, items: int, new_row: np.ndarray | None, added: DenseRows | None) -> None:
    """Write to ``target`` what changes of a data-bin's dense files; nothing where it has none.

    Args:
        source: the data-bin as it is.
        items: rows of the catalogue to be.
        new_row: (N,) int64, each item's new row, -1 for one that is no more; None where rows stay as they are.
        added: the rows of the items that join.

    Raises:
        ValueError: the new embeddings are not as wide as the old ones.
    """
    for name, more in zip((EMBEDDINGS, ORIGINALS), added or (None, None), strict=True):
        if (source / name).is_file():
            _update_rows(source / name, target / name, items, new_row, more)
    # a MODEL folder has no training captions
    if new_row is not None and (source / CAPTIONS).is_file() and (source / queries_file("train")).is_file():
        with reading(source / queries_file("train"), REMEDY):
            rows = read_table(source / queries_file("train"), ["item_row"])["item_row"].to_numpy()
            kept = new_row[rows] >= 0
        if not kept.all():
            with reading(source / CAPTIONS, REMEDY):
                features = np.load(source / CAPTIONS, mmap_mode="r", allow_pickle=False)[kept]
            np.save(target / CAPTIONS, features)


def _update_rows(source: Path, target: Path, items: int, new_row: np.ndarray | None, added: Embeddings | None) -> None:
    """Write one file of rows (N, D) anew, if their number changes; see `update_dense`."""
    with reading(source, REMEDY):
        old = np.load(source, mmap_mode="r", allow_pickle=False)
    if added is not None and added.shape[1] != old.shape[1]:
        raise ValueError(
            f"the new embeddings are {added.shape[1]} wide, those of {source}, which a dense head reads, {old.shape[1]}; "
            "give embeddings of the same kind, or binarise anew"
        )
    if items == len(old):
        return
    out = new_array(target, old.dtype, (items, old.shape[1]))
    parts: list[tuple[Embeddings, np.ndarray]]
    if new_row is None:
        if added is None:
            raise ValueError(
                f"{source} needs the embeddings of the new items from before a join; join them with --like"
            )
        parts = [(old, np.arange(len(old))), (added, np.arange(len(old), items))]
    else:
        parts = [(old, new_row)]
    for rows, places in parts:
        for block in blocks(*rows.shape):
            there = places[block] >= 0
            out[places[block][there]] = rows[block][there]
    out.flush()
