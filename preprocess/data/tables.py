"""Embeddings in a list column of a Parquet or Arrow file, read forward a few thousand rows at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cart_fairseq.base.reading import reason, unreadable

SUFFIXES = (".parquet", ".arrow", ".feather", ".ipc")
READ_ROWS = 4096
BUFFER_BYTES = 1 << 20
DAMAGE = (pa.ArrowException, OSError, UnicodeError, LookupError, TypeError, RuntimeError, OverflowError, MemoryError)
"""What pyarrow raises for damaged files. No error of ours: those are plain ValueErrors."""


class TableRows:
    """The embedding column of one table, indexed like a (N, D) array.

    A table can only be read forward from the start of a row group (Parquet) or record batch (Arrow): rows asked for in
    ascending order are found in one pass. No more than READ_ROWS rows are held, besides what a compressed Arrow file
    has in one record batch.

    Attributes:
        filename: the file, as str.
        shape, dtype, ndim: of the array that it stands for.

    Raises:
        ValueError: not such a file, no such column, a column that is no list of float16 or float32, or no rows.
    """

    def __init__(self, path: str | Path, column: str):
        self.filename = str(path)
        self.column = column
        self._stream: Iterator[np.ndarray] = iter(())
        self._block: np.ndarray = np.empty((0, 0))
        self._start = self._unit = 0
        try:
            with open(path, "rb") as file:
                magic = file.read(6)
            self._parquet = magic.startswith(b"PAR1")
            self._reader = self._open(streamed=magic != b"ARROW1")
            schema = self._reader.schema_arrow if self._parquet else self._reader.schema
            lengths = self._unit_lengths()
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise unreadable(path, error) from None
        except DAMAGE as error:
            raise self._damaged(error) from None
        self.ends = np.cumsum(lengths)
        if len(lengths) == 0 or self.ends[-1] == 0:
            raise ValueError(f"{path}: no rows; there must be at least one item")
        self.dtype: np.dtype = self._value_type(schema)
        self.shape: tuple[int, int] = (int(self.ends[-1]), self._width())
        self.ndim = 2

    def _open(self, streamed: bool) -> Any:
        if self._parquet:
            # Without pre-buffering and with a small buffer, or a whole row group would be read ahead.
            return pq.ParquetFile(self.filename, pre_buffer=False, buffer_size=BUFFER_BYTES)
        source = pa.memory_map(self.filename)
        return pa.ipc.open_stream(source) if streamed else pa.ipc.open_file(source)

    def _unit_lengths(self) -> list[int]:
        """Rows of each part that reading can start at; an Arrow stream has only its beginning."""
        if self._parquet:
            meta = self._reader.metadata
            return [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        if isinstance(self._reader, pa.ipc.RecordBatchFileReader):
            return [self._reader.get_batch(index).num_rows for index in range(self._reader.num_record_batches)]
        return [sum(batch.num_rows for batch in self._reader)]

    def _value_type(self, schema: pa.Schema) -> np.dtype:
        if self.column not in schema.names:
            raise ValueError(
                f"{self.filename}: no column {self.column!r} among {', '.join(schema.names)}; name the one that holds "
                "the embeddings with --embedding-column"
            )
        kind = schema.field(self.column).type
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not is_list or kind.value_type not in (pa.float16(), pa.float32()):
            raise ValueError(
                f"{self.filename}, column {self.column}: {kind}, must be lists of float16 or float32; cast the column to "
                "pyarrow.list_(pyarrow.float32(), dimension)"
            )
        return np.dtype(kind.value_type.to_pandas_dtype())

    def _width(self) -> int:
        try:
            first = next(self._columns(int(np.argmax(self.ends > 0))))
            width = pc.list_value_length(first)[0].as_py()
        except (*DAMAGE, StopIteration) as error:
            raise self._damaged(error) from None
        if not width:
            raise ValueError(
                f"{self.filename}, row 0: the embedding is {'empty' if width == 0 else 'null'}; extract it"
            )
        return width

    def _columns(self, unit: int) -> Iterator[pa.Array]:
        """The column's values from the start of a unit to its end, READ_ROWS at most at a time, without empty ones."""
        if self._parquet:
            batches = self._reader.iter_batches(READ_ROWS, row_groups=[unit], columns=[self.column], use_threads=False)
        elif isinstance(self._reader, pa.ipc.RecordBatchFileReader):
            batches = iter([self._reader.get_batch(unit)])
        else:
            batches = iter(self._open(streamed=True))
        for batch in batches:
            array = batch.column(self.column)
            array = array.storage if isinstance(array, pa.ExtensionArray) else array
            for start in range(0, len(array), READ_ROWS):
                yield array.slice(start, READ_ROWS)

    def _matrices(self, unit: int) -> Iterator[np.ndarray]:
        """`_columns` as (n, D) arrays, checked for nulls and for lists of another length."""
        row = int(self.ends[unit - 1]) if unit else 0
        try:
            for array in self._columns(unit):
                lengths = pc.list_value_length(array).fill_null(-1).to_numpy(zero_copy_only=False)
                if (lengths != self.shape[1]).any():
                    bad = int((lengths != self.shape[1]).argmax())
                    found = "null" if lengths[bad] < 0 else f"{lengths[bad]} values"
                    raise ValueError(
                        f"{self.filename}, row {row + bad}, column {self.column}: found {found}, row 0 has "
                        f"{self.shape[1]} values; mend the extraction of this item or leave the item out"
                    )
                values = array.flatten()
                if values.null_count:
                    bad = int(values.is_null().to_numpy(zero_copy_only=False).argmax()) // self.shape[1]
                    raise ValueError(
                        f"{self.filename}, row {row + bad}, column {self.column}: found a null value; mend the "
                        "extraction of this item or leave the item out"
                    )
                yield values.to_numpy(zero_copy_only=False).reshape(-1, self.shape[1])
                row += len(array)
        except DAMAGE as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(
            f"{self.filename}: not a Parquet or Arrow file, or damaged ({reason(error)}); copy or write the file again"
        )

    def _seek(self, row: int) -> None:
        """Make `_block`, which starts at row `_start`, the one that holds `row`."""
        unit = int(np.searchsorted(self.ends, row, side="right"))
        if unit != self._unit or row < self._start or not len(self._block):
            self._unit, self._stream = unit, self._matrices(unit)
            self._start, self._block = (int(self.ends[unit - 1]) if unit else 0), self._next()
        while row >= self._start + len(self._block):
            self._start += len(self._block)
            self._block = self._next()

    def _next(self) -> np.ndarray:
        block = next(self._stream, None)
        if block is None:
            raise self._damaged(ValueError("it holds fewer rows than it says"))
        return block

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | NDArray[np.integer]) -> np.ndarray:
        if isinstance(rows, (int, np.integer)):
            return self[np.array([rows])][0]
        wanted = np.arange(len(self))[rows]
        order = np.argsort(wanted, kind="stable")
        ordered = wanted[order]
        out = np.empty((len(wanted), self.shape[1]), dtype=self.dtype)
        done = 0
        while done < len(ordered):
            self._seek(int(ordered[done]))
            stop = int(np.searchsorted(ordered, self._start + len(self._block)))
            out[order[done:stop]] = self._block[ordered[done:stop] - self._start]
            done = stop
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)
