"""The folder that `preprocess.join_captions` writes: rows of items and captions, and the fitted parts that made them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from cart_fairseq.files import digest, read_json, sha256, write_json

RECORD, PARTS, VOCABULARY = "join.json", "join.safetensors", "vocabulary.json"
ITEMS, CAPTIONS, ALIGNED = "embeddings.npy", "captions.npy", "aligned.npy"
VERSION = 2
"""Of what the fitted parts are."""


def check_output(output: Path) -> None:
    """Refuse to replace anything that is not of this command."""
    if output.is_dir():
        if any(output.iterdir()) and not (output / RECORD).is_file():
            raise ValueError(f"{output}: holds files that are no join; remove it or choose another --output")
    elif output.exists():
        raise ValueError(f"{output}: is a file; --output is a folder, choose another")


def damage(folder: Path, record: dict[str, Any]) -> str | None:
    """The name of a file that is missing or not what the record says, if there is one."""
    files: dict[str, str] = record["files"]
    return next((n for n, s in files.items() if not (folder / n).is_file() or sha256(folder / n) != s), None)


def is_current(output: Path, made_from: dict[str, Any]) -> bool:
    """Whether `output` is an undamaged join made from the same inputs and settings."""
    if not (output / RECORD).is_file():
        return False
    record = read_json(output / RECORD)
    if not isinstance(record, dict) or record.get("version") != VERSION:
        return False
    return {name: record.get(name) for name in made_from} == made_from and damage(output, record) is None


def read_record(folder: Path) -> dict[str, Any]:
    """`join.json`.

    Raises:
        ValueError: missing, or of something else.
    """
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or not {"settings", "parts", "dimension", "files"} <= record.keys():
        raise ValueError(f"{folder / RECORD}: not a record of preprocess.join_captions; make the join again")
    if record.get("version") != VERSION:
        raise ValueError(
            f"{folder / RECORD}: version {record.get('version', 1)}, this is version {VERSION}; make the join again"
        )
    return record


def read_parts(folder: Path, record: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The fitted parts and, where there is one, the vocabulary.

    Raises:
        ValueError: a file is missing or damaged.
    """
    needed = {name: checksum for name, checksum in record["files"].items() if name in (PARTS, VOCABULARY)}
    bad = damage(folder, {"files": needed})
    if bad or PARTS not in needed:
        raise ValueError(f"{folder / (bad or PARTS)}: missing, or not what {RECORD} says; make the join again")
    return load_file(folder / PARTS), read_json(folder / VOCABULARY) if VOCABULARY in needed else []


def identifier_rows(given: Path) -> Path:
    """What identifiers are built from: of a join its aligned rows, else its joined ones; anything else as it is."""
    if not (given / RECORD).is_file():
        return given
    return given / (ALIGNED if ALIGNED in read_record(given)["files"] else ITEMS)


def dense_rows(given: Path) -> Path:
    """What a dense head reads: of a join its joined rows; anything else as it is."""
    return given / ITEMS if (given / RECORD).is_file() else given


def texts_digest(captions: Sequence[dict[str, Any]]) -> str:
    """What tells captions from others: whose they are and what they say, line by line."""
    return digest([[caption["item_id"], caption["text"]] for caption in captions])


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write `join.json`, with the checksums of the other files in the folder."""
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_json(folder / RECORD, record | {"version": VERSION, "files": files})
