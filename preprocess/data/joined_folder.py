"""The folder that `join_captions` writes: rows of items and captions, and the fitted parts that made them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from cart_fairseq.base.files import digest, refuse_paths, sha256, write_json
from cart_fairseq.base.reading import check_fields, check_version, read_json
from cart_fairseq.catalogue.errors import reading
from preprocess.data.output import Kind, Made, damaged

RECORD, PARTS, VOCABULARY = "join.json", "join.safetensors", "vocabulary.json"
ITEMS, CAPTIONS, ALIGNED, ORIGINALS = "embeddings.npy", "captions.npy", "aligned.npy", "originals.npy"
FITTED_PARTS = (RECORD, PARTS, VOCABULARY)
"""The files that join other items in the same way."""
VERSION = 2
"""Of what the fitted parts are."""
FIELDS = {"settings": dict, "dimension": int, "files": dict, "captions": int, "texts": str}
REMEDY = "make the join again"


def damage(folder: Path, record: dict[str, Any]) -> str | None:
    """The name of a file that is missing or not what the record says, if there is one."""
    bad = damaged({folder / name: digest for name, digest in record["files"].items()})
    return bad.name if bad else None


def read_made(folder: Path) -> Made:
    """What a join was made from: settings and inputs; ValueError where there is no such record of this version."""
    record = read_record(folder)
    made_from = {name: record.get(name) for name in ("settings", "inputs_sha256")}
    if ORIGINALS not in record["files"]:
        raise ValueError(
            f"{folder / RECORD}: the join has no {ORIGINALS}, because an earlier version made it; {REMEDY}"
        )
    return Made(made_from, {folder / name: digest for name, digest in record["files"].items()})


NAMES = (RECORD, PARTS, VOCABULARY, ITEMS, CAPTIONS, ALIGNED, ORIGINALS)
"""All that a join holds. A data-bin that was made from one has a record of that name, too, and must not be replaced."""
JOIN = Kind("join", read_made, lambda folder: folder / RECORD, names=NAMES)


def read_record(folder: Path) -> dict[str, Any]:
    """`join.json`.

    Raises:
        ValueError: missing, or of something else.
    """
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or not {"settings", "parts", "dimension", "files"} <= record.keys():
        raise ValueError(f"{folder / RECORD}: not a record of preprocess.join_captions; make the join again")
    check_version(f"{folder / RECORD}: version", record.get("version", 1), VERSION, "make the join again")
    check_fields(folder / RECORD, record, FIELDS, REMEDY)
    refuse_paths(folder / RECORD, record["files"])
    return record


class SavedParts(NamedTuple):
    """The fitted parts of a join as they are on disk.

    Attributes:
        tensors: by name.
        vocabulary: words of latent semantic analysis; empty for a sentence encoder.
    """

    tensors: dict[str, np.ndarray]
    vocabulary: list[str]


def read_parts(folder: Path, record: dict[str, Any]) -> SavedParts:
    """The fitted parts of a join.

    Raises:
        ValueError: a file is missing or damaged.
    """
    needed = {name: checksum for name, checksum in record["files"].items() if name in (PARTS, VOCABULARY)}
    bad = damage(folder, {"files": needed})
    if bad or PARTS not in needed:
        raise ValueError(f"{folder / (bad or PARTS)}: missing, or not what {RECORD} says; make the join again")
    with reading(folder / PARTS, REMEDY):
        tensors = load_file(folder / PARTS)
        for name, values in tensors.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ValueError(f"{name} holds NaN or infinite values")
    return SavedParts(tensors, read_json(folder / VOCABULARY) if VOCABULARY in needed else [])


def identifier_rows(given: Path) -> Path:
    """The embeddings to build identifiers from: a join's aligned rows, else its joined rows; other paths unchanged.

    Raises:
        ValueError: those of the join are missing or damaged.
    """
    if not (given / RECORD).is_file():
        return given
    files = read_record(given)["files"]
    name = ALIGNED if ALIGNED in files else ITEMS
    if damage(given, {"files": {name: files.get(name)}}):
        raise ValueError(f"{given / name}: missing, or not what {RECORD} says; {REMEDY}")
    return given / name


def dense_rows(given: Path) -> Path:
    """The embeddings that a dense head reads: a join's joined rows, any other path unchanged."""
    return given / ITEMS if (given / RECORD).is_file() else given


def originals_of(folder: Path) -> np.ndarray | None:
    """The embeddings from before a join, (N, D) float16; None for a join of an earlier version, which kept none.

    Raises:
        ValueError: the file is damaged.
    """
    record = read_record(folder)
    if ORIGINALS not in record["files"]:
        return None
    if damage(folder, {"files": {ORIGINALS: record["files"][ORIGINALS]}}):
        raise ValueError(f"{folder / ORIGINALS}: missing, or not what {RECORD} says; {REMEDY}")
    with reading(folder / ORIGINALS, REMEDY):
        rows: np.ndarray = np.load(folder / ORIGINALS, mmap_mode="r", allow_pickle=False)
    return rows


def items_digest(item_ids: Iterable[str]) -> str:
    """A checksum of item ids and their order."""
    return digest(list(item_ids))


def refuse_other_items(source: Path, item_ids: Iterable[str], items_path: str | Path) -> None:
    """Refuse a join of other items than these, or of these in another order.

    Args:
        source: a join. Any other path passes, and so does a join of a version that did not record its items.
        item_ids: of the rows, in order.
        items_path: what names the items, for the message.

    Raises:
        ValueError: the join was made with others.
    """
    if not (source / RECORD).is_file():
        return
    joined = read_record(source).get("item_ids")
    if joined is not None and joined != items_digest(item_ids):
        raise ValueError(
            f"{source}: was joined with other items than those of {items_path}, or with the same ones in another order; "
            "join these items, with the embeddings in the same order"
        )


def texts_digest(captions: Sequence[dict[str, Any]]) -> str:
    """A checksum of the captions' items and texts, line by line."""
    return digest([[caption["item_id"], caption["text"]] for caption in captions])


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write `join.json`, with the checksums of the other files in the folder."""
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_json(folder / RECORD, record | {"version": VERSION, "files": files})
