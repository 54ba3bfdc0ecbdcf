"""The parts of an identifier bundle: the items it was built with, and one folder for each later addition.

Rows are numbered consecutively through all parts. Files that the manifest names are never changed. An update writes new
files and then replaces ``manifest.json`` by one rename, so the bundle is in the old or in the new state at any time.
Files that the manifest does not name were left by an interrupted update.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cart_fairseq.base.checks import short
from cart_fairseq.base.files import is_plain_name, sha256
from cart_fairseq.base.parquet import parquet_writer, read_table
from cart_fairseq.base.progress import track
from cart_fairseq.base.reading import check_version
from cart_fairseq.catalogue.errors import CatalogueError, read_json
from cart_fairseq.catalogue.held_files import HeldFiles, Stamp, identity

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
UPDATE_LOCK = "update.lock"
"""The file in an identifier bundle that is locked by whatever changes the bundle, or the data-bin around it."""
IDENTIFIERS, ITEMS = "identifiers.npy", "item_ids.parquet"
SCHEMA = pa.schema([("item_id", pa.string()), ("split", pa.string()), ("record", pa.string())])
BLOCK_ROWS = 1 << 17
FOLDER = re.compile(r"segments/\d{6,12}/")
OURS = re.compile(
    r"identifiers\.npy|item_ids\.parquet|dict\.id\.txt|codec\.(safetensors|json)|report\.json|manifest\.json|segments|"
    r"removed\.\d+\.npy|update\.(lock|json)"
)
"""Names in an identifier bundle; a new bundle in its place keeps all others."""
SHA256 = re.compile(r"[0-9a-f]{64}")
HISTORY = re.compile(r"[0-9a-f]{16}")
REMEDY = "build it again with python -m preprocess.build_identifiers"
MOST_POSITIONS = 64


class Age(NamedTuple):
    """Consecutive rows of a bundle that came with the same revision.

    Attributes:
        revision: the update that added the rows; 0 for those that the bundle was built with.
        items: the number of rows.
    """

    revision: int
    items: int


class Part(NamedTuple):
    """Consecutive rows of a bundle.

    Attributes:
        folder: the folder of the rows' files, relative to the bundle; empty or ending in ``/``.
        items: the number of rows.
    """

    folder: str
    items: int


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read the ``manifest.json`` of a bundle.

    Raises:
        CatalogueError: the file is missing, or of another kind or schema.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise CatalogueError(f"{directory}: no manifest.json, so this is not an identifier bundle; {REMEDY}")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("kind") != "identifiers":
        raise CatalogueError(f"{path}: it does not describe an identifier bundle; {REMEDY}")
    check_schema(path, manifest, REMEDY)
    return manifest


def check_schema(path: Path, manifest: Mapping[str, Any], remedy: str) -> None:
    """Check the version of the format of a bundle or data-bin.

    Raises:
        CatalogueError: it is another one.
    """
    try:
        check_version(f"{path}: schema_version", manifest.get("schema_version"), SCHEMA_VERSION, remedy)
    except ValueError as error:
        raise CatalogueError(str(error)) from None


def hold_files(directory: Path, manifest: Mapping[str, Any], remedy: str, others: Iterable[str] = ()) -> HeldFiles:
    """Open the files that a manifest lists; check their names and compare their sizes with their entries.

    Args:
        directory: the folder of the files.
        manifest: the manifest that lists them.
        remedy: the last part of the error message.
        others: names of more files to open.

    Raises:
        CatalogueError: a name is not of a file in this folder, or a file is missing or has another size; the message
            names it.
    """
    entries = manifest["files"]
    for name in entries:
        folder = FOLDER.match(name)
        if not is_plain_name(name[folder.end() :] if folder else name):
            raise CatalogueError(
                f"{directory}/manifest.json: lists the file {name!r}, which is none of ours; do not use what a stranger "
                f"changed, or {remedy}"
            )
        digest = entries[name].get("sha256")
        if digest is not None and not (isinstance(digest, str) and SHA256.fullmatch(digest)):
            raise CatalogueError(
                f"{directory}/manifest.json: sha256 of {name} is {short(digest)}, not 64 digits; {remedy}"
            )
    held = HeldFiles(directory, {**dict.fromkeys(entries), **dict.fromkeys(others)}, remedy)
    for name, entry in entries.items():
        if held.size(name) != entry["bytes"]:
            raise CatalogueError(
                f"{directory / name}: {held.size(name)} bytes, the manifest says {entry['bytes']}; {remedy}"
            )
    return held


def stamp(directory: Path) -> Stamp:
    """Return what changes with every change of a bundle."""
    return (identity(directory), identity(directory / MANIFEST))


def parts_of(manifest: Mapping[str, Any]) -> list[Part]:
    """Return the parts that a manifest names; a bundle that was never updated has one, its own folder.

    Raises:
        ValueError: a part's folder is none of ours, or its number of rows is none.
    """
    parts = [Part(*part) for part in manifest.get("segments", [("", manifest["items"])])]
    for part in parts:
        if not (part.folder == "" or FOLDER.fullmatch(part.folder)):
            raise ValueError(f"segments lists the folder {part.folder!r}")
        if type(part.items) is not int or part.items < 0:
            raise ValueError(f"segments lists {part.items!r} items")
    return parts


def check_ranges(positions: Sequence[tuple[Any, Any]], manifest: Mapping[str, Any]) -> None:
    """Raise ValueError for numbers that no bundle of ours has, before memory is taken for them.

    Args:
        positions: name and size of each position.
        manifest: of the bundle.
    """
    if not 1 <= len(positions) <= MOST_POSITIONS:
        raise ValueError(f"{len(positions)} positions")
    for name, size in positions:
        if not isinstance(name, str) or type(size) is not int or not 1 <= size < 1 << 31:
            raise ValueError(f"position {name!r} of size {size!r}")
    if type(manifest.get("revision", 0)) is not int or not 0 <= manifest.get("revision", 0) < 10**12:
        raise ValueError(f"revision {manifest['revision']!r}")


def ages_of(manifest: Mapping[str, Any]) -> list[Age]:
    """Return the ages of a bundle's rows, in row order, oldest first.

    A manifest of an earlier version has no ``ages``. Then they follow from the names of its parts, and rows that were
    added and merged before count as built.

    Raises:
        ValueError: the ages are not of these rows.
    """
    parts = parts_of(manifest)
    named = [(int(part.folder.split("/")[1]) if part.folder else 0, part.items) for part in parts]
    ages = [Age(*age) for age in manifest.get("ages", named)]
    whole = all(type(number) is int and number >= 0 for age in ages for number in age)
    revisions = [age.revision for age in ages]
    if not whole or revisions != sorted(revisions) or sum(age.items for age in ages) != manifest["items"]:
        raise ValueError(f"ages is {manifest.get('ages')!r}")
    return ages


def histories_of(manifest: Mapping[str, Any]) -> dict[int, str]:
    """Return the history of each revision that added rows, as far as it was recorded: 16 hexadecimal digits.

    A revision is a number, which copies of a bundle count on their own. Equal histories are of the same additions.

    Raises:
        ValueError: one is something else.
    """
    found = manifest.get("histories", {})
    if not isinstance(found, dict) or not all(
        isinstance(each, str) and HISTORY.fullmatch(each) and str(number).isdecimal() for number, each in found.items()
    ):
        raise ValueError(f"histories is {short(found)}")
    return {int(number): each for number, each in found.items()}


def next_history(before: str, entries: Iterable[Mapping[str, Any]]) -> str:
    """Return the history of a revision that adds rows.

    Args:
        before: what came before; see :func:`histories_of`.
        entries: of the files of the new rows.
    """
    return hashlib.sha256(json.dumps([before, *(entry["sha256"] for entry in entries)]).encode()).hexdigest()[:16]


def file_entry(path: Path) -> dict[str, Any]:
    """Return a file's manifest entry: its SHA-256 and its size in bytes."""
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def state_of(manifest: Mapping[str, Any]) -> str:
    """Return 64 hexadecimal digits that change when an identifier is added or removed, but not when files move."""
    files = manifest["files"]
    named = [part.folder + name for part in parts_of(manifest) for name in (IDENTIFIERS, ITEMS)]
    named += [manifest["removed"]] if manifest.get("removed") else []
    return hashlib.sha256(json.dumps([files[name]["sha256"] for name in named]).encode()).hexdigest()


def write_part(folder: Path, values: np.ndarray, items: Iterable[Mapping[str, Any]]) -> None:
    """Write (n, J) identifiers and the n objects of ``items.jsonl`` into an existing folder, block by block."""
    np.save(folder / IDENTIFIERS, np.ascontiguousarray(values, dtype=np.int32), allow_pickle=False)
    rows = iter(track(items, "writing items", "items", total=len(values)))
    with parquet_writer(folder / ITEMS, SCHEMA) as writer:
        while block := list(itertools.islice(rows, BLOCK_ROWS)):
            item_ids = [item["item_id"] for item in block]
            splits = [item.get("split") for item in block]
            records = [json.dumps(item, ensure_ascii=False) for item in block]
            writer.write_table(pa.table([item_ids, splits, records], schema=SCHEMA))


def open_values(files: HeldFiles, parts: Sequence[Part], length: int) -> list[np.ndarray]:
    """Open the identifiers of each part: (n, length) int32, memory-mapped.

    Raises:
        CatalogueError: a file is damaged, or has another dtype or shape.
    """
    arrays = []
    for part in parts:
        name = part.folder + IDENTIFIERS
        with files.reading(name) as path:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        if values.shape != (part.items, length) or values.dtype != np.int32:
            raise CatalogueError(
                f"{files.folder / name}: {values.dtype} of shape {values.shape}, expected int32 "
                f"{(part.items, length)}; {REMEDY}"
            )
        arrays.append(values)
    return arrays


def read_column(files: HeldFiles, parts: Sequence[Part], name: str) -> pa.ChunkedArray:
    """Read one column of the items' table, in row order.

    Raises:
        CatalogueError: a table cannot be read.
    """
    chunks: list[pa.Array] = []
    for part in parts:
        with files.reading(part.folder + ITEMS) as path:
            column = read_table(path, [name], part.items)[name]
            column.validate(full=True)  # its texts are UTF-8
        chunks += column.chunks
    return pa.chunked_array(chunks, pa.string())


def folder_of(parts: Sequence[Part], row: int) -> str:
    """Return the folder of the part that has a row."""
    ends = itertools.accumulate(part.items for part in parts)
    return next(part.folder for part, end in zip(parts, ends) if row < end)


def read_removed(files: HeldFiles, manifest: Mapping[str, Any]) -> np.ndarray:
    """Read the rows of the removed items: (R,) int64, ascending.

    Raises:
        CatalogueError: the file is damaged, or does not hold ascending int64 row numbers.
    """
    if not manifest.get("removed"):
        return np.empty(0, dtype=np.int64)
    name = manifest["removed"]
    if not is_plain_name(name) or name not in files:
        raise CatalogueError(f"{files.folder}/{MANIFEST}: removed is {name!r}, none of its files; {REMEDY}")
    with files.reading(name) as path:
        rows = np.array(np.load(path, mmap_mode="r", allow_pickle=False))  # mapped first: no larger than the file
    numbers = rows.dtype == np.int64 and rows.ndim == 1
    if not numbers or (np.diff(rows, prepend=-1, append=manifest["items"]) <= 0).any():
        raise CatalogueError(
            f"{files.folder / name}: {rows.dtype} of shape {rows.shape}, expected ascending int64 row numbers; {REMEDY}"
        )
    return rows
