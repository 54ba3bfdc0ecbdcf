"""The identifier bundle: what every item is called, from arrays to dictionary symbols and back (CART 3.2).

An identifier is one value per position, for the default scheme (k, v1..vM, u). Values become symbols of the target
dictionary by position, ``<k_17> <v1_3> <v2_90> <u_0>``, so that each position has a range of its own.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from cart_fairseq.files import read_json, replacing, sha256, write_json

SCHEMA_VERSION = 1
DICTIONARY_SPECIALS = 4  # fairseq's <s> <pad> </s> <unk> come before the first symbol of a dictionary file
FILES = ("identifiers.npy", "item_ids.parquet", "dict.id.txt", "codec.safetensors", "codec.json", "report.json")


@dataclasses.dataclass(frozen=True)
class Position:
    """One position of every identifier: its name (``k``, ``v1`` … ``u``) and how many values it can take."""

    name: str
    size: int

    def symbol(self, value: int) -> str:
        """The dictionary's word for a value, e.g. ``<v1_3>``."""
        return f"<{self.name}_{value}>"


def unique_tokens(codes: np.ndarray, unique_size: int = 128) -> np.ndarray:
    """Count, in row order and from 0, the items that share a code: the unique token u (CART 3.2.3).

    Args:
        codes: (N, C) integers, the semantic part of each identifier.
        unique_size: symbols reserved per digit of u, at least 2.

    Returns:
        (N, digits) int32; one digit unless a code is shared by more than ``unique_size`` items, in which case every
        count is spelled with as many digits as the largest needs, most significant first.
    """
    if unique_size < 2:
        raise ValueError(f"--unique-size is {unique_size}; reserve at least 2 symbols for the unique token")
    order = np.lexsort(codes.T[::-1])
    ordered = codes[order]
    first = np.ones(len(codes), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(first)
    counts = np.empty(len(codes), dtype=np.int64)
    counts[order] = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    digits = 1
    while len(codes) and counts.max() >= unique_size**digits:
        digits += 1
    places = unique_size ** np.arange(digits - 1, -1, -1)
    return ((counts[:, None] // places) % unique_size).astype(np.int32)


def unique_positions(digits: int, unique_size: int) -> list[Position]:
    """The positions that spell the unique token: ``u``, or ``u1`` … where one digit is not enough."""
    return [Position("u" if digits == 1 else f"u{i + 1}", unique_size) for i in range(digits)]


def write_bundle(
    directory: str | Path,
    values: np.ndarray,
    positions: Sequence[Position],
    items: Sequence[Mapping[str, Any]],
    report: Mapping[str, Any],
    codec_tensors: Mapping[str, np.ndarray],
    codec_settings: Mapping[str, Any],
) -> "IdentifierBundle":
    """Write a complete identifier bundle, atomically, and open it.

    Args:
        values: (N, J) integers, one value per item and position; rows must be distinct.
        positions: the J positions.
        items: the N objects of ``items.jsonl``, in the same order.

    Raises:
        ValueError: shapes disagree, a value lies outside its position, or two identifiers are equal.
    """
    if values.ndim != 2 or values.shape != (len(items), len(positions)):
        raise ValueError(f"identifiers have shape {values.shape}, expected ({len(items)}, {len(positions)})")
    sizes = np.array([position.size for position in positions])
    if len(values) and ((values < 0) | (values >= sizes)).any():
        row, column = np.argwhere((values < 0) | (values >= sizes))[0]
        raise ValueError(f"item row {row}: {positions[column].symbol(values[row, column])} of {sizes[column]} values")
    if len(np.unique(values, axis=0)) != len(values):
        raise ValueError("two items have the same identifier; add a unique token")
    with replacing(directory, directory=True) as new:
        np.save(new / "identifiers.npy", np.ascontiguousarray(values, dtype=np.int32), allow_pickle=False)
        columns = {
            "item_id": pa.array([item["item_id"] for item in items], pa.string()),
            "split": pa.array([item.get("split") for item in items], pa.string()),
            "record": pa.array([json.dumps(item, ensure_ascii=False) for item in items], pa.string()),
        }
        pq.write_table(pa.table(columns), new / "item_ids.parquet")
        words = (position.symbol(value) for position in positions for value in range(position.size))
        (new / "dict.id.txt").write_text("".join(f"{word} 1\n" for word in words), encoding="utf-8")
        save_file({k: np.ascontiguousarray(v) for k, v in codec_tensors.items()}, new / "codec.safetensors")
        write_json(new / "codec.json", dict(codec_settings))
        write_json(new / "report.json", dict(report))
        write_json(
            new / "manifest.json",
            {
                "schema_version": SCHEMA_VERSION,
                "kind": "identifiers",
                "items": len(values),
                "positions": [dataclasses.asdict(position) for position in positions],
                "files": {n: {"sha256": sha256(new / n), "bytes": (new / n).stat().st_size} for n in FILES},
            },
        )
    return IdentifierBundle.load(directory)


class IdentifierBundle:
    """An identifier bundle on disk, opened by :meth:`load`.

    Attributes:
        directory: where it lies.
        values: (N, J) int32, memory-mapped; row order is that of the items.
        positions: the J positions with their names and sizes.
        manifest: the parsed ``manifest.json``.
    """

    def __init__(self, directory: Path, values: np.ndarray, positions: tuple[Position, ...], manifest: dict[str, Any]):
        self.directory = directory
        self.values = values
        self.positions = positions
        self.manifest = manifest

    @classmethod
    def load(cls, directory: str | Path) -> "IdentifierBundle":
        """Open a bundle, checking schema, sizes and headers (:meth:`verify` hashes everything).

        Raises:
            ValueError: something is missing, truncated or of another schema; the message names the file.
        """
        directory = Path(directory)
        remedy = "build it again with python -m preprocess.build_identifiers"
        if not (directory / "manifest.json").is_file():
            raise ValueError(f"{directory}: no manifest.json, so not an identifier bundle; {remedy}")
        manifest = read_json(directory / "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("kind") != "identifiers":
            raise ValueError(f"{directory}/manifest.json: does not describe an identifier bundle; {remedy}")
        if manifest.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"{directory}/manifest.json: schema_version is {manifest.get('schema_version')}, this version reads "
                f"{SCHEMA_VERSION}; {remedy}"
            )
        check_sizes(directory, manifest, remedy)
        try:
            values = np.load(directory / "identifiers.npy", mmap_mode="r", allow_pickle=False)
            positions = tuple(Position(p["name"], p["size"]) for p in manifest["positions"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{directory}: identifiers.npy or manifest.json is damaged ({error}); {remedy}") from None
        expected = (manifest["items"], len(positions))
        if values.shape != expected or values.dtype != np.int32:
            raise ValueError(
                f"{directory}/identifiers.npy: {values.dtype} of shape {values.shape}, expected int32 {expected}; {remedy}"
            )
        return cls(directory, values, positions, manifest)

    def verify(self) -> None:
        """Hash every file against the manifest.

        Raises:
            ValueError: a checksum differs; the message names the file.
        """
        for name, entry in self.manifest["files"].items():
            found = sha256(self.directory / name)
            if found != entry["sha256"]:
                raise ValueError(
                    f"{self.directory / name}: sha256 is {found[:12]}…, the manifest says {entry['sha256'][:12]}…; "
                    "the file was changed or damaged, restore it or build the bundle again"
                )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def length(self) -> int:
        """J, the number of positions of every identifier."""
        return len(self.positions)

    @property
    def fingerprint(self) -> str:
        """What a data-bin and a checkpoint remember: the checksum of the identifiers and of their items."""
        files = self.manifest["files"]
        return files["identifiers.npy"]["sha256"][:32] + files["item_ids.parquet"]["sha256"][:32]

    @cached_property
    def offsets(self) -> np.ndarray:
        """(J,) int64: the first target-dictionary symbol of each position."""
        sizes = [position.size for position in self.positions]
        return DICTIONARY_SPECIALS + np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)

    def symbols(self) -> np.ndarray:
        """(N, J) int64: every identifier in symbols of the target dictionary."""
        return np.asarray(self.values, dtype=np.int64) + self.offsets

    @cached_property
    def _table(self) -> pa.Table:
        table = pq.read_table(self.directory / "item_ids.parquet")
        if table.num_rows != len(self):
            raise ValueError(
                f"{self.directory}/item_ids.parquet: {table.num_rows} rows for {len(self)} identifiers; build it again"
            )
        return table

    @cached_property
    def item_ids(self) -> list[str]:
        """The N item ids in row order."""
        return self._table["item_id"].to_pylist()

    @cached_property
    def splits(self) -> list[str | None]:
        """Each item's split (train, valid, test) or None, in row order."""
        return self._table["split"].to_pylist()

    def item_id(self, row: int) -> str:
        """The item id of a row."""
        return self._table["item_id"][row].as_py()

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Rows of some items: (n,) int64, ascending, each once; one pass over the column, whatever its length.

        Raises:
            ValueError: an item is not in the catalogue.
        """
        wanted = pa.array(item_ids, pa.string())
        column = self._table["item_id"]
        place = pc.index_in(column, value_set=wanted)
        rows = np.flatnonzero(place.is_valid().to_numpy())
        if len(rows) < len(wanted.unique()):
            unknown = pc.invert(pc.is_in(wanted, value_set=column.take(rows)))
            raise ValueError(
                f"candidate {wanted.filter(unknown)[0].as_py()!r} is not in the catalogue; check the item ids"
            )
        return rows

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id -> row."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    def record(self, row: int) -> dict[str, Any]:
        """Everything ``items.jsonl`` says about the item of a row."""
        return json.loads(self._table["record"][row].as_py())

    @cached_property
    def report(self) -> dict[str, Any]:
        """The parsed ``report.json``."""
        return read_json(self.directory / "report.json")

    @cached_property
    def codec_settings(self) -> dict[str, Any]:
        """The parsed ``codec.json``."""
        return read_json(self.directory / "codec.json")

    def codec_tensors(self) -> dict[str, np.ndarray]:
        """The arrays of ``codec.safetensors``."""
        return load_file(self.directory / "codec.safetensors")


def check_sizes(directory: Path, manifest: Mapping[str, Any], remedy: str) -> None:
    """Compare every file's size with its manifest entry.

    Raises:
        ValueError: a file is missing or has another size; the message names it.
    """
    for name, entry in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            raise ValueError(f"{path}: missing, though the manifest lists it; {remedy}")
        if path.stat().st_size != entry["bytes"]:
            raise ValueError(f"{path}: {path.stat().st_size} bytes, the manifest says {entry['bytes']}; {remedy}")
