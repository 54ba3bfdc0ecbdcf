"""What `preprocess.extract_embeddings` writes: rows, lists of what they belong to, and a record of what they are made from."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.files import read_json, sha256, write_json
from preprocess.data.embeddings import blocks

RECORD = "extraction.json"
FILES = ("embeddings.npy", "items.jsonl", "captions.jsonl", "skipped.jsonl", RECORD)


def check_output(output: Path) -> None:
    """Refuse to replace a folder that holds anything that was not written here."""
    if output.is_dir():
        foreign = sorted(child.name for child in output.iterdir() if child.name not in FILES)
        if foreign:
            raise ValueError(f"{output}: holds {foreign[0]!r}, which is not of this command; choose another --output")
    elif output.exists():
        raise ValueError(f"{output}: is a file; --output with --items is a folder, choose another")


def is_current(record: Path, made_from: dict[str, Any], on_error: str) -> bool:
    """Whether an output is undamaged and made from the same, with nothing skipped that should be an error now."""
    if not record.is_file():
        return False
    found = read_json(record)
    if found["made_from"] != made_from or (found["skipped"] and on_error == "fail"):
        return False
    files = {record.parent / name: checksum for name, checksum in found["files"].items()}
    return all(path.is_file() and sha256(path) == checksum for path, checksum in files.items())


def write_record(record: Path, made_from: dict[str, Any], files: Sequence[Path], skipped: int) -> None:
    """Write what `is_current` compares."""
    checksums = {path.name: sha256(path) for path in files}
    write_json(record, {"made_from": made_from, "skipped": skipped, "files": checksums})


def save_rows(path: Path, values: NDArray[np.float32], kept: NDArray[np.int64], dtype: str) -> None:
    """Write some rows as a .npy file, a block at a time."""
    shape = (len(kept), values.shape[1])
    new = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    for block in blocks(*shape):
        new[block] = values[kept[block]]
    new.flush()


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def relocated(item: dict[str, Any], source: Path, folder: Path) -> dict[str, Any]:
    """An item whose media path is relative to a folder instead of to the list it comes from; absolute paths stay."""
    if os.path.isabs(item["media"]):
        return item
    return item | {"media": os.path.relpath(source.parent.resolve() / item["media"], folder.resolve())}
