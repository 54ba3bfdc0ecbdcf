"""The identifier bundle: the identifiers of all items, as arrays and as dictionary symbols (CART 3.2).

An identifier has one value per position, (k, v1..vM, u) in the default scheme. The target dictionary has one symbol for
each position and value, as in ``<k_17> <v1_3> <v2_90> <u_0>``, so each position has its own range of symbols.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from cart_fairseq.base.checks import short
from cart_fairseq.base.files import replacing, write_json
from cart_fairseq.catalogue import segments
from cart_fairseq.catalogue.checksums import sealed, verify_files
from cart_fairseq.catalogue.dictionary import SPECIALS, check_size
from cart_fairseq.catalogue.errors import CatalogueError, read_json, reading
from cart_fairseq.catalogue.held_files import HeldFiles, open_settled
from cart_fairseq.catalogue.item_ids import ItemIds
from cart_fairseq.catalogue.positions import Position, semantic_positions
from cart_fairseq.catalogue.segments import MANIFEST, SCHEMA_VERSION, hold_files
from cart_fairseq.catalogue.trie_build import build_levels

FILES = ("identifiers.npy", "item_ids.parquet", "dict.id.txt", "codec.safetensors", "codec.json", "report.json")


def write_bundle(
    directory: str | Path,
    values: np.ndarray,
    positions: Sequence[Position],
    items: Collection[Mapping[str, Any]],
    report: Mapping[str, Any],
    codec_tensors: Mapping[str, np.ndarray],
    codec_settings: Mapping[str, Any],
) -> "IdentifierBundle":
    """Write a complete identifier bundle, atomically, and open it.

    Args:
        directory: the bundle's folder, which is created or replaced.
        values: (N, J) integers, one value per item and position; rows must be distinct.
        positions: the J positions.
        items: the N objects of ``items.jsonl``, in the same order.
        report: the content of ``report.json``.
        codec_tensors: the arrays of ``codec.safetensors``.
        codec_settings: the content of ``codec.json``.

    Raises:
        ValueError: shapes disagree, a value is out of its position's range, or two identifiers are equal.
    """
    if values.ndim != 2 or values.shape != (len(items), len(positions)):
        raise ValueError(f"identifiers have shape {values.shape}, expected ({len(items)}, {len(positions)})")
    sizes = np.array([position.size for position in positions])
    if len(values) and ((values < 0) | (values >= sizes)).any():
        row, column = np.argwhere((values < 0) | (values >= sizes))[0]
        raise ValueError(
            f"item row {row}, position {positions[column].name}: value {values[row, column]} is not between 0 and "
            f"{sizes[column] - 1}; build the identifiers again"
        )
    build_levels(values, sizes.tolist())  # refuses equal identifiers
    with replacing(directory, directory=True, ours=segments.OURS) as new:
        segments.write_part(new, values, items)
        words = (position.symbol(value) for position in positions for value in range(position.size))
        (new / "dict.id.txt").write_text("".join(f"{word} 1\n" for word in words), encoding="utf-8")
        save_file({k: np.ascontiguousarray(v) for k, v in codec_tensors.items()}, new / "codec.safetensors")
        write_json(new / "codec.json", dict(codec_settings))
        write_json(new / "report.json", dict(report))
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "kind": "identifiers",
            "items": len(values),
            "positions": [dataclasses.asdict(position) for position in positions],
            "files": {name: segments.file_entry(new / name) for name in FILES},
        }
        write_json(new / MANIFEST, sealed(manifest))
    return IdentifierBundle.load(directory)


class IdentifierBundle:
    """An identifier bundle on disk, opened by :meth:`load`.

    Attributes:
        directory: the bundle's folder.
        files: its files, held open: they are read as they were when the bundle was opened.
        parts: the folders that hold its rows (:mod:`cart_fairseq.catalogue.segments`).
        positions: the J positions with their names and sizes.
        ages: the updates that added the rows, in row order.
        histories: revision -> history, of the revisions that added rows (:func:`~cart_fairseq.catalogue.segments.histories_of`).
        removed: (R,) int64, ascending rows of removed items. They are not in the catalogue, but their identifiers stay
            reserved.
        manifest: the parsed ``manifest.json``.
    """

    def __init__(self, files: HeldFiles, manifest: dict[str, Any]):
        directory = files.folder
        self.directory = directory
        self.files = files
        self.manifest = manifest
        try:
            self.positions = tuple(Position(p["name"], p["size"]) for p in manifest["positions"])
            self.parts = segments.parts_of(manifest)
            complete = sum(part.items for part in self.parts) == manifest["items"]
            self.ages = segments.ages_of(manifest) if complete else []
            self.histories = segments.histories_of(manifest)
            segments.check_ranges([(p.name, p.size) for p in self.positions], manifest)
            check_size([(p.name, p.size) for p in self.positions], manifest["files"].get("dict.id.txt"))
        except (KeyError, TypeError, ValueError) as error:
            raise CatalogueError(f"{directory}/manifest.json: damaged ({error}); {segments.REMEDY}") from None
        if not complete:
            raise CatalogueError(f"{directory}/manifest.json: its segments lack items; {segments.REMEDY}")
        self._arrays = segments.open_values(files, self.parts, len(self.positions))
        self.removed = segments.read_removed(files, manifest)

    @classmethod
    def load(cls, directory: str | Path, manifest: dict[str, Any] | None = None) -> "IdentifierBundle":
        """Open a bundle and check its schema, file sizes and headers; :meth:`verify` also checks hashes.

        Args:
            directory: the bundle's folder.
            manifest: used instead of ``manifest.json`` while an update is not yet complete.

        Raises:
            CatalogueError: a file is missing, truncated or of another schema; the message names the file.
        """
        folder = Path(directory)
        if manifest is not None:
            return cls._open(folder, manifest)
        return open_settled(
            folder, lambda: segments.stamp(folder), lambda: cls._open(folder, segments.read_manifest(folder))
        )

    @classmethod
    def _open(cls, directory: Path, manifest: dict[str, Any]) -> "IdentifierBundle":
        with reading(directory / MANIFEST, segments.REMEDY):
            return cls(hold_files(directory, manifest, segments.REMEDY, [MANIFEST]), manifest)

    def __reduce__(self) -> Any:
        return opened_again, (self.directory.absolute(), self.manifest)

    def __deepcopy__(self, _memo: Any) -> "IdentifierBundle":
        return self

    def verify(self) -> None:
        """Compare the SHA-256 of every file with the manifest, as far as it has checksums.

        Raises:
            CatalogueError: a checksum differs; the message names the file.
        """
        self.verify_files(self.manifest["files"])

    def verify_files(self, names: Iterable[str]) -> list[str]:
        """Compare the SHA-256 of some files with the manifest; return the names of those without a checksum.

        Raises:
            CatalogueError: a checksum differs; the message names the file.
        """
        return verify_files(self.files, self.manifest, names, "build the bundle again")

    def __len__(self) -> int:
        """N, the number of items, including removed ones."""
        return int(self.manifest["items"])

    @cached_property
    def values(self) -> np.ndarray:
        """(N, J) int32 identifiers in row order; memory-mapped unless items were added."""
        return self._arrays[0] if len(self._arrays) == 1 else np.concatenate(self._arrays)

    def values_of(self, rows: np.ndarray) -> np.ndarray:
        """Read the identifiers of rows (n,) from the memory-mapped files: (n, J) int32."""
        ends = np.cumsum([len(each) for each in self._arrays])
        part = np.searchsorted(ends, rows, side="right")
        found = np.empty((len(rows), self.length), dtype=np.int32)
        for number in np.unique(part):
            chosen, array = part == number, self._arrays[number]
            found[chosen] = array[rows[chosen] - (ends[number] - len(array))]
        return found

    @cached_property
    def kept(self) -> np.ndarray:
        """(N - R,) int64, ascending rows of the items that were not removed."""
        return np.delete(np.arange(len(self)), self.removed)

    @property
    def semantic_positions(self) -> tuple[Position, ...]:
        """The positions that carry meaning, which come first; see :func:`semantic_positions`."""
        return semantic_positions(self.positions)

    @property
    def length(self) -> int:
        """J, the number of positions of every identifier."""
        return len(self.positions)

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits of the checksums of the identifiers and items that the bundle was built with.

        A data-bin and a checkpoint store it. Updates do not change it, because they change no item's identifier.
        """
        files = self.manifest["files"]
        built = [files.get(name, {}).get("sha256", "")[:32] for name in (segments.IDENTIFIERS, segments.ITEMS)]
        return str(self.manifest.get("fingerprint") or "".join(built))

    @property
    def revision(self) -> int:
        """The number of updates since the bundle was built."""
        return int(self.manifest.get("revision", 0))

    def items_at(self, revision: int) -> int:
        """Return the number of rows that a revision had; rows from there on came later."""
        return sum(age.items for age in self.ages if age.revision <= revision)

    @property
    def history(self) -> str:
        """16 hexadecimal digits that name the rows' additions; empty where an earlier version added the last ones."""
        last = max([age.revision for age in self.ages] + [*self.histories])
        return self.histories.get(last, "") if last else self.fingerprint[:16]

    @cached_property
    def state(self) -> str:
        """64 hexadecimal digits that change with every update; a saved trie stores them."""
        return segments.state_of(self.manifest)

    @cached_property
    def offsets(self) -> np.ndarray:
        """(J,) int64, the first target-dictionary symbol of each position."""
        sizes = [position.size for position in self.positions]
        return len(SPECIALS) + np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)

    def symbols(self) -> np.ndarray:
        """(N, J) int64, every identifier in symbols of the target dictionary."""
        return np.asarray(self.values, dtype=np.int64) + self.offsets

    @cached_property
    def id_column(self) -> pa.ChunkedArray:
        """The N item ids as an Arrow column, which holds no Python objects."""
        return segments.read_column(self.files, self.parts, "item_id")

    @cached_property
    def split_column(self) -> pa.ChunkedArray:
        """The N splits as an Arrow column; null for an item without a split."""
        return segments.read_column(self.files, self.parts, "split")

    @cached_property
    def _records(self) -> pa.ChunkedArray:
        return segments.read_column(self.files, self.parts, "record")

    @cached_property
    def item_ids(self) -> list[str]:
        """The N item ids in row order."""
        return self.id_column.to_pylist()

    @cached_property
    def splits(self) -> list[str | None]:
        """Each item's split (train, valid, test) or None, in row order."""
        return self.split_column.to_pylist()

    def item_id(self, row: int) -> str:
        """The item id of a row."""
        return self.id_column[row].as_py()

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Rows of items: (n,) int64, ascending and distinct. It takes one pass over the column of item ids.

        Raises:
            ValueError: an item is not in the catalogue.
        """
        return self._ids.rows_of(item_ids)

    def find(self, item_id: str) -> int | None:
        """Return the row of one item, or None if it is not in the catalogue; see :meth:`ItemIds.find`."""
        return self._ids.find(item_id)

    @cached_property
    def _ids(self) -> ItemIds:
        return ItemIds(self.id_column, self.removed)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """A mapping of item id to row, without removed items."""
        gone = set(self.removed.tolist())
        return {item_id: row for row, item_id in enumerate(self.item_ids) if row not in gone}

    def record(self, row: int) -> dict[str, Any]:
        """The object of ``items.jsonl`` that describes the item of a row; CatalogueError where it is damaged."""
        try:
            return {**json.loads(self._records[row].as_py())}
        except Exception:
            with reading(self.directory / segments.folder_of(self.parts, row) / segments.ITEMS, segments.REMEDY):
                raise

    @cached_property
    def report(self) -> dict[str, Any]:
        """The parsed ``report.json``, written by the build or by the last ``compact``."""
        with self.files.reading(self.parts[0].folder + "report.json") as path:
            return read_json(path)

    @cached_property
    def codec_settings(self) -> dict[str, Any]:
        """The parsed ``codec.json``, whose checksum is compared."""
        self.verify_files(["codec.json"])
        with self.files.reading("codec.json") as path:
            settings = read_json(path)
        if not isinstance(settings, dict):
            raise CatalogueError(
                f"{self.directory}/codec.json: holds {short(settings)}, not an object; {segments.REMEDY}"
            )
        return settings

    def codec_tensors(self) -> dict[str, np.ndarray]:
        """The arrays of ``codec.safetensors``, whose checksum is compared.

        Raises:
            CatalogueError: the file is damaged.
        """
        self.verify_files(["codec.safetensors"])
        with self.files.reading("codec.safetensors") as path:
            return load_file(path)


def opened_again(directory: Path, manifest: dict[str, Any]) -> IdentifierBundle:
    """Open a bundle that was pickled.

    Raises:
        CatalogueError: it is in another state than then, missing or damaged.
    """
    found = IdentifierBundle.load(directory)
    if found.manifest != manifest:
        raise CatalogueError(f"{directory}: was updated since it was pickled; open it anew")
    return found
