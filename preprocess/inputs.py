"""Readers of the user's files: embeddings, items.jsonl and captions.jsonl, checked before anything is computed.

Whatever is wrong becomes a `ValueError` that names the file, the row (counted from 1, as editors do, in .jsonl files
and from 0, as numpy does, in arrays), the value found and what to do about it.
"""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.files import read_jsonl

ROLES = ("train", "index", "query")
SPLITS = ("train", "valid", "test")
MODALITIES = ("image", "audio", "video")
LARGEST_VALUE = 1e15
"""Squared distances of larger float32 embeddings overflow."""
BLOCK_BYTES = 64 << 20


class ShardedRows:
    """Row-wise concatenation of memory-mapped arrays of equal width and dtype; nothing is copied until indexed.

    Supports what the pipeline needs of a (N, D) array: `shape`, `dtype`, `len`, indexing by an integer, a slice or an
    array of rows, and `numpy.asarray`.
    """

    def __init__(self, shards: Sequence[np.ndarray]):
        self.shards = list(shards)
        self.ends = np.cumsum([len(shard) for shard in self.shards]).tolist()
        self.shape: tuple[int, int] = (self.ends[-1], self.shards[0].shape[1])
        self.dtype = self.shards[0].dtype
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | NDArray[np.integer]) -> np.ndarray:
        if isinstance(rows, (int, np.integer)):
            return self[np.array([rows])][0]
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
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


Embeddings = np.ndarray | ShardedRows
"""What `open_embeddings` returns: indexed alike, never loaded whole by the pipeline."""


def blocks(rows: int, dimension: int) -> Iterator[slice]:
    """Slices that walk through (rows, dimension) float32 values about 64 MiB at a time."""
    step = max(1, BLOCK_BYTES // (4 * dimension))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def open_embeddings(path: str | Path) -> Embeddings:
    """Open item embeddings as a memory map and check every value, in blocks.

    Args:
        path: a (N, D) float16 or float32 `.npy` file in C order, or a folder of such files, taken in name order.

    Returns:
        (N, D) memory map for one file, `ShardedRows` for several.

    Raises:
        ValueError: missing, truncated or not `.npy`; wrong dtype, rank or order; no rows; NaN or infinite values,
            values beyond 1e15, all-zero rows; shards that differ in width or dtype.
    """
    path = Path(path)
    if not path.is_dir():
        return open_array(path)
    names = sorted(child for child in path.iterdir() if child.suffix == ".npy" and not child.name.startswith("."))
    if not names:
        raise ValueError(f"{path}: a folder without .npy files; give a .npy file or a folder of .npy shards")
    shards = [open_array(name) for name in names]
    for name, shard in zip(names, shards, strict=True):
        if shard.shape[1] != shards[0].shape[1] or shard.dtype != shards[0].dtype:
            raise ValueError(
                f"{name}: {shard.dtype} of width {shard.shape[1]}, but {names[0].name} is {shards[0].dtype} of width "
                f"{shards[0].shape[1]}; all shards of a folder must agree"
            )
    return shards[0] if len(shards) == 1 else ShardedRows(shards)


def open_array(path: Path) -> np.ndarray:
    """Open and check one `.npy` file as `open_embeddings` describes."""
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
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ValueError:
        raise ValueError(f"{path}: not a .npy file, or its header is damaged; {remedy}") from None
    if dtype not in (np.dtype(np.float16), np.dtype(np.float32)):
        raise ValueError(f"{path}: dtype is {dtype}, must be float16 or float32; {remedy}")
    if len(shape) != 2:
        raise ValueError(f"{path}: shape is {shape}, must be (items, dimension); one row per line of items.jsonl")
    if 0 in shape:
        raise ValueError(f"{path}: shape is {shape}; there must be at least one item and one dimension")
    if fortran_order:
        raise ValueError(f"{path}: stored in Fortran order; write numpy.ascontiguousarray(embeddings) instead")
    expected, found = start + shape[0] * shape[1] * dtype.itemsize, path.stat().st_size
    if found < expected:
        raise ValueError(
            f"{path}: truncated, {found} bytes where shape {shape} needs {expected}; copy or extract the file again"
        )
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    for block in blocks(*shape):
        check_values(path, array[block], block.start)
    return array


def check_values(path: Path, values: np.ndarray, first_row: int) -> None:
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


def read_items(path: str | Path) -> list[dict[str, Any]]:
    """Read items.jsonl; line i describes embedding row i.

    Returns:
        The objects as they stand, unknown fields included.

    Raises:
        ValueError: unreadable rows (see `read_jsonl`), no rows, bad or duplicate `item_id`, bad `split` or `modality`.
    """
    items = read_jsonl(path)
    if not items:
        raise ValueError(f"{path}: no items; write one object a line")
    seen: dict[str, int] = {}
    for number, item in enumerate(items, start=1):
        where = f"{path}, row {number}"
        item_id = check_id(where, "item_id", item.get("item_id"))
        if item_id in seen:
            raise ValueError(f"{where}: item_id {item_id!r} is already that of row {seen[item_id]}; make ids unique")
        seen[item_id] = number
        check_choice(where, "split", item.get("split"), SPLITS)
        check_choice(where, "modality", item.get("modality"), MODALITIES)
        if item.get("media") is not None and not isinstance(item["media"], str):
            raise ValueError(f"{where}: media is {item['media']!r}, must be a path as a string")
        check_encodable(where, item)
    return items


def match_items(
    embeddings: Embeddings, items: Sequence[Any], embeddings_path: str | Path, items_path: str | Path
) -> None:
    """Refuse embeddings and items that differ in number."""
    if len(embeddings) != len(items):
        raise ValueError(
            f"{embeddings_path}: {len(embeddings)} rows, but {items_path} has {len(items)} items; line i must describe "
            "embedding row i"
        )


def read_captions(path: str | Path, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read captions.jsonl against the items of `read_items`, field by field.

    What role and split mean together with the item's split is `preprocess.roles`' matter.

    Returns:
        The objects as they stand, in file order.

    Raises:
        ValueError: unreadable rows, no rows, an unknown item, an empty or non-string text, a bad role, split or
            caption_id.
    """
    captions = read_jsonl(path)
    if not captions:
        raise ValueError(f"{path}: no captions; write one object a line")
    known = {item["item_id"] for item in items}
    for number, caption in enumerate(captions, start=1):
        where = f"{path}, row {number}"
        item_id = check_id(where, "item_id", caption.get("item_id"))
        if item_id not in known:
            raise ValueError(f"{where}: item_id {item_id!r} is not among the items; add the item or drop the caption")
        text = caption.get("text")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}: text is {text!r}; write a caption or drop the row")
        check_choice(where, "role", caption.get("role"), ROLES)
        check_choice(where, "split", caption.get("split"), SPLITS)
        if caption.get("caption_id") is not None:
            check_id(where, "caption_id", caption["caption_id"])
        check_encodable(where, caption)
    return captions


def check_id(where: str, field: str, value: Any) -> str:
    """Refuse ids that are no strings, empty, or hold tabs, line breaks or other control characters."""
    if not isinstance(value, str):
        found = "missing" if value is None else repr(value)
        raise ValueError(f"{where}: {field} is {found}; it must be a string" + ("" if value is None else ", quote it"))
    if not value.strip():
        raise ValueError(f"{where}: {field} is {value!r}; it must not be empty")
    bad = next((c for c in value if unicodedata.category(c) in ("Cc", "Zl", "Zp")), None)
    if bad is not None:
        kind = {"\t": "a tab", "\n": "a newline", "\r": "a newline"}.get(bad, f"the control character U+{ord(bad):04X}")
        raise ValueError(f"{where}: {field} {value!r} holds {kind}; result files are lines of columns, remove it")
    return value


def check_choice(where: str, field: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse a value that is neither missing nor one of the allowed ones."""
    if value is not None and value not in allowed:
        raise ValueError(f"{where}: {field} is {value!r}, must be one of {', '.join(allowed)} or be left out")


def check_encodable(where: str, row: dict[str, Any]) -> None:
    r"""Refuse half surrogate pairs (`"\ud83d"` alone is legal JSON), which no UTF-8 file can hold."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: holds half a surrogate pair (U+{ord(error.object[error.start]):04X}); write real UTF-8"
        ) from None
