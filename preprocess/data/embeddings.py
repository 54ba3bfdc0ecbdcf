"""Item embeddings as the pipeline sees them: (N, D) rows of files on disk, of which only blocks are ever in memory.

`open_embeddings` opens a `.npy` file, a Parquet or Arrow file, or a folder of such; whatever it returns is indexed
alike. Nothing here holds a whole catalogue.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.progress import Progress
from cart_fairseq.base.reading import read_begin, refuse_packed, unreadable
from preprocess.data.fields import EMBEDDING_COLUMN
from preprocess.data.tables import SUFFIXES as TABLE_SUFFIXES
from preprocess.data.tables import TableRows

LARGEST_VALUE = 1e15
"""Squared distances of larger float32 embeddings overflow."""
BLOCK_BYTES = 64 << 20
DIGITS = re.compile(r"[0-9]+")
CLIP_ROWS = "img_emb"
"""Folder of the shards in a folder that clip-retrieval wrote."""


class ShardedRows:
    """Row-wise concatenation of memory-mapped arrays or tables of one width and dtype; copied only when indexed.

    Supports what the pipeline needs of a (N, D) array: `shape`, `dtype`, `len`, indexing by an integer, a slice or an
    array of rows, and `numpy.asarray`.
    """

    def __init__(self, shards: Sequence[np.ndarray | TableRows]):
        self.shards = list(shards)
        self.ends = np.cumsum([len(shard) for shard in self.shards]).tolist()
        self.shape: tuple[int, int] = (self.ends[-1], self.shards[0].shape[1])
        self.dtype: np.dtype = self.shards[0].dtype
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | NDArray[np.integer]) -> np.ndarray:
        if isinstance(rows, (int, np.integer)):
            return self[np.array([rows])][0]
        if isinstance(rows, slice):
            first, last, step = rows.indices(len(self))
            shard = int(np.searchsorted(self.ends, first, side="right"))
            if step == 1 and first < last <= self.ends[shard]:
                # A view of one memory map, where fancy indexing would copy.
                start = self.ends[shard] - len(self.shards[shard])
                return self.shards[shard][first - start : last - start]
            rows = np.arange(first, last, step)
        wanted = np.asarray(rows)
        if wanted.dtype == bool:
            wanted = np.flatnonzero(wanted)
        if len(wanted) and (wanted.min() < -len(self) or wanted.max() >= len(self)):
            raise IndexError(f"row {wanted.max()} of {len(self)}")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        out = np.empty((len(wanted), self.shape[1]), dtype=self.dtype)
        shard_of = np.searchsorted(self.ends, wanted, side="right")
        for index in np.unique(shard_of):
            here = shard_of == index
            out[here] = self.shards[index][wanted[here] - (self.ends[index] - len(self.shards[index]))]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


class RowSubset:
    """Some rows of embeddings, read when indexed by a slice or an array of positions within the subset."""

    def __init__(self, points: "Embeddings", rows: NDArray[np.int64]):
        self.points = points
        self.rows = rows
        self.shape: tuple[int, int] = (len(rows), points.shape[1])
        self.dtype: np.dtype = points.dtype
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> np.ndarray:
        return self.points[self.rows[rows]]


Embeddings = np.ndarray | ShardedRows | TableRows | RowSubset
"""What `open_embeddings` returns: indexed alike, never loaded whole by the pipeline."""


def blocks(rows: int, dimension: int, step: int | None = None) -> Iterator[slice]:
    """Slices that walk through (rows, dimension) float32 values `step` rows, or about 64 MiB, at a time."""
    step = step or max(1, BLOCK_BYTES // (4 * dimension))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def in_order(shards: Iterable[Path]) -> list[Path]:
    """Order the shards of a folder: by their numbers if their names differ only in these, else by name.

    >>> [path.name for path in in_order([Path("10.npy"), Path("2.npy"), Path("0.npy")])]
    ['0.npy', '2.npy', '10.npy']
    >>> [path.name for path in in_order([Path("b2.npy"), Path("a10.npy"), Path("a9.npy")])]
    ['a10.npy', 'a9.npy', 'b2.npy']
    """
    by_name = sorted(shards)
    if len({DIGITS.sub("0", path.name) for path in by_name}) > 1:
        return by_name
    return sorted(by_name, key=lambda path: [int(number) for number in DIGITS.findall(path.name)])


def open_embeddings(path: str | Path, column: str = EMBEDDING_COLUMN, check: bool = True) -> Embeddings:
    """Open item embeddings without loading them.

    Args:
        path: a (N, D) float16 or float32 `.npy` file in C order; a Parquet or Arrow (IPC, Feather, `datasets`) file
            with a list column of such values; or a folder of such files of one kind, taken in the order of `in_order`; or
            a folder that clip-retrieval wrote, whose embeddings of images are taken.
        column: of the tables, the one that holds the embeddings.
        check: read every value as `check_embeddings` does.

    Returns:
        (N, D) memory map or table for one file, `ShardedRows` for several.

    Raises:
        ValueError: missing, truncated or of another format; wrong dtype, rank or order; no rows; shards that differ in
            kind, width or dtype; with `check`, bad values.
    """
    path = Path(path)
    if (path / CLIP_ROWS).is_dir():
        path /= CLIP_ROWS
    names = [path]
    if path.is_dir():
        known = (".npy", *TABLE_SUFFIXES)
        names = in_order(child for child in path.iterdir() if child.suffix in known and not child.name.startswith("."))
        if not names:
            raise ValueError(
                f"{path}: a folder without .npy files or tables ({', '.join(TABLE_SUFFIXES)}); give a file or a folder "
                "of shards"
            )
        kinds = {name.suffix for name in names}
        if len(kinds) > 1:
            raise ValueError(f"{path}: holds {' and '.join(sorted(kinds))} files; keep the shards of one kind in it")
    shards = [TableRows(name, column) if name.suffix in TABLE_SUFFIXES else open_array(name) for name in names]
    for name, shard in zip(names, shards, strict=True):
        if shard.shape[1] != shards[0].shape[1] or shard.dtype != shards[0].dtype:
            raise ValueError(
                f"{name}: {shard.dtype} of width {shard.shape[1]}, but {names[0].name} is {shards[0].dtype} of width "
                f"{shards[0].shape[1]}; all shards of a folder must agree"
            )
    embeddings = shards[0] if len(shards) == 1 else ShardedRows(shards)
    if check:
        check_embeddings(embeddings, path)
    return embeddings


def open_array(path: Path) -> np.ndarray:
    """Open one `.npy` file as a memory map, checking its header and size."""
    remedy = "write it with numpy.save(file, embeddings.astype(numpy.float32))"
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, fortran_order, dtype = read_header(file)
            start = file.tell()
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # damaged headers are Python code that numpy parses, and raise errors of many types
        refuse_packed(path, read_begin(path))
        raise ValueError(
            f"{path}: not a .npy file, or its header is damaged ({type(error).__name__}); {remedy}"
        ) from None
    if dtype not in (np.dtype(np.float16), np.dtype(np.float32)):
        raise ValueError(f"{path}: dtype is {dtype}, must be float16 or float32; {remedy}")
    if len(shape) != 2:
        raise ValueError(f"{path}: shape is {shape}, must be (items, dimension); one row per line of items.jsonl")
    if min(shape) < 1:
        raise ValueError(f"{path}: shape is {shape}; there must be at least one item and one dimension")
    if fortran_order:
        raise ValueError(f"{path}: stored in Fortran order; write numpy.ascontiguousarray(embeddings) instead")
    expected, found = start + shape[0] * shape[1] * dtype.itemsize, path.stat().st_size
    if found < expected:
        raise ValueError(
            f"{path}: truncated, {found} bytes where shape {shape} needs {expected}; copy or extract the file again"
        )
    return np.load(path, mmap_mode="r", allow_pickle=False)


def check_embeddings(embeddings: Embeddings, path: str | Path) -> str:
    """Read all values once, block by block, and refuse those that no identifier can be made from.

    Args:
        embeddings: of `open_embeddings`.
        path: the file or folder that was opened; errors name the shard.

    Returns:
        SHA-256 over shape, dtype and values, the same whether they lie in one file, in shards or in a table.

    Raises:
        ValueError: NaN, infinite or overlarge values or all-zero rows; the message names file, row, column and value.
    """
    hasher = hashlib.sha256(f"{tuple(embeddings.shape)} {embeddings.dtype}".encode())
    shards = embeddings.shards if isinstance(embeddings, ShardedRows) else [embeddings]
    with Progress(len(embeddings), "checking embeddings", "rows") as progress:
        for shard in shards:
            for block in blocks(*shard.shape):
                values = np.ascontiguousarray(shard[block])
                check_values(getattr(shard, "filename", path), values, block.start)
                hasher.update(values.data)
                progress.update(len(values))
    return hasher.hexdigest()


def check_values(path: str | Path, values: np.ndarray, first_row: int) -> None:
    """Refuse NaN, infinite and overlarge values and all-zero rows of a block whose first row is `first_row`."""
    # In float32, because the bound is infinity in float16. False for NaN and infinity too.
    good = np.abs(values.astype(np.float32, copy=False)) <= LARGEST_VALUE
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise ValueError(
            f"{path}, row {first_row + row}, column {column}: found {values[row, column]:g}; every value must be a finite "
            f"number of at most {LARGEST_VALUE:g}, mend the extraction of this item or leave the item out"
        )
    empty = ~values.any(axis=1)
    if empty.any():
        raise ValueError(
            f"{path}, row {first_row + int(empty.argmax())}: all values are 0 ({int(empty.sum())} such rows in this "
            "block); the item has no embedding, extract it again or leave the item out"
        )
