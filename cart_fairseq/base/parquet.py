"""Parquet files, read no larger than their size allows, under names that pyarrow would take for something else.

pyarrow takes a path that begins with ``~`` for one in the user's home, and none that is not UTF-8. Here files are
opened first, and as files of pyarrow: its threads may let go of one of Python's while the interpreter ends, which then
aborts. Its own functions for whole tables import pandas, for most of a second; these do not.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ALWAYS, EXPANDED = 64 << 20, 100
"""Bytes that a table may have in memory: so many, and so many for each byte of its file."""


def _opened(path: Path, mode: Literal["rb", "wb"]) -> pa.OSFile:
    open(path, mode).close()  # whose errors name the file
    return pa.OSFile(os.fsencode(path), mode)


@contextmanager
def parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file."""
    with _opened(path, "rb") as file, pq.ParquetFile(file) as table:
        yield table


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a new Parquet file to write tables of a schema."""
    with _opened(path, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        yield writer


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as a new Parquet file."""
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path, columns: Sequence[str] | None = None, rows: int | None = None) -> pa.Table:
    """Read a Parquet file, or some of its columns.

    Args:
        path: the file.
        columns: the columns; None for all.
        rows: how many rows it must have; None if that is not known.

    Raises:
        ValueError: it has another number of rows, or a file as small holds so much only to fill the memory.
        pyarrow.ArrowException: it is damaged.
    """
    limit = ALWAYS + EXPANDED * os.path.getsize(path)
    with _opened(path, "rb") as file:
        facts = pq.read_metadata(file)
        schema = facts.schema.to_arrow_schema()
        names = schema.names if columns is None else [*columns]
        if rows is not None and facts.num_rows != rows:
            raise ValueError(f"{facts.num_rows:,} rows for {rows:,} identifiers")
        texts = [name for name in names if name in schema.names and _is_text(schema.field(name).type)]
        stored = sum(
            column.total_uncompressed_size
            for group in map(facts.row_group, range(facts.num_row_groups))
            for column in map(group.column, range(group.num_columns))
            if column.path_in_schema in names
        )
        _refuse_above(max(stored, 8 * facts.num_rows), limit)
        if texts:  # a text that many rows share is in the file once, and so it is in memory if it is read like this
            sizes = dict.fromkeys(texts, 0)
            with pq.ParquetFile(file, read_dictionary=texts) as table:
                for group in range(facts.num_row_groups):
                    coded = table.read_row_group(group, columns=texts)
                    for name in texts:
                        sizes[name] += sum(map(_bytes_of, coded[name].chunks))
                        _refuse_above(sizes[name], limit)
                    del coded
        with pq.ParquetFile(file) as table:
            found = table.read(columns=None if columns is None else names)
    pa.default_memory_pool().release_unused()  # else what was read on the way stays with the process
    return found


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_binary(kind)


def _bytes_of(chunk: pa.DictionaryArray) -> int:
    """The bytes of the texts of a chunk, each counted as often as it comes."""
    if not len(chunk.dictionary):
        return 0
    _, offsets, _ = chunk.dictionary.buffers()
    lengths = np.diff(np.frombuffer(offsets, np.int32))[: len(chunk.dictionary)]
    _, indices = chunk.indices.buffers()
    places = np.frombuffer(indices, chunk.indices.type.to_pandas_dtype())[chunk.offset : chunk.offset + len(chunk)]
    return int(lengths[np.clip(places, 0, len(lengths) - 1)].sum(dtype=np.int64))  # of a null the place has no meaning


def _refuse_above(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"would take {size >> 20:,} MiB of memory, more than a file of its size should")
