"""Metadata tables as Hugging Face's loaders of folders take them: `metadata.csv`, `metadata.jsonl`, `metadata.parquet`.

A row describes the files that its columns `file_name`, `*_file_name`, `file_names` and `*_file_names` name, relative to
the table's folder. Several rows may describe one file, and several tables may lie below the folder.
"""

import csv
import os
import posixpath
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from cart_fairseq.base.reading import parse_row, printable, reason
from preprocess.folder.limits import TABLE_BYTES
from preprocess.folder.listing import File, Skipped, composed
from preprocess.folder.values import CAPTIONS, captions_of, metadata_fields

BATCH = 1024
NAMES = ("file_name", "file_names")
SEPARATORS = (",", ";", "\t")
DAMAGE = (pa.ArrowException, OSError, UnicodeError, LookupError, TypeError, RuntimeError, OverflowError, MemoryError)
"""What pyarrow raises for damaged files, besides ValueError."""


class Tables:
    """What tables say of files.

    Args:
        root: the folder that is read.
        media: paths of the media below it.
        unusable: paths that are known to be of no use.

    Attributes:
        captions: path of a file -> its captions, in the order of the rows.
        fields: path of a file -> its fields. Of several values the first counts.
        skipped: tables and rows that cannot be used.
    """

    def __init__(self, root: Path, media: Collection[str], unusable: Collection[str]):
        self.root, self.media, self.unusable = root, media, unusable
        self.captions: dict[str, list[str]] = {}
        self.fields: dict[str, dict[str, Any]] = {}
        self.skipped: list[Skipped] = []
        self._composed = {composed(path): path for path in media}

    def read(self, table: File) -> None:
        """Read a table."""
        path = self.root / table.path
        try:
            if table.bytes > TABLE_BYTES:
                raise ValueError(f"has more than {TABLE_BYTES:,} bytes; divide it")
            for number, row in _READERS[table.ending](path):
                if isinstance(row, str):
                    self.skipped.append(Skipped(table.path, row))
                else:
                    self._take(table.path, number, row)
        except UnicodeDecodeError:
            self.skipped.append(Skipped(table.path, "invalid UTF-8; save as UTF-8"))
        except (ValueError, *DAMAGE) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
            self.skipped.append(Skipped(table.path, printable(f"cannot be read ({said}); write it again")))

    def _take(self, table: str, number: int, row: Mapping[str, Any]) -> None:
        """Note what a row says."""
        columns = [name for name in row if names_files(name)]
        listed = (row[name] if isinstance(row[name], list) else [row[name]] for name in columns)
        names = [name for names in listed for name in names if isinstance(name, str) and name]
        if not names:
            self.skipped.append(Skipped(table, f"row {number} names no file; give it a file_name"))
        captions, fields = captions_of(row), metadata_fields(row, columns)
        for name in names:
            path = locate(posixpath.dirname(table), name)
            found = path if path in self.media else self._composed.get(composed(path or ""))
            if path is None:
                problem = f"{table}, row {number}: leads out of the folder; name a file inside it"
                self.skipped.append(Skipped(printable(name), problem))
            elif found is not None:
                self.captions.setdefault(found, []).extend(captions)
                self.fields[found] = {**fields, **self.fields.get(found, {})}
            elif path not in self.unusable:
                problem = f"{table}, row {number}: there is no such picture, sound or video; correct file_name"
                self.skipped.append(Skipped(printable(path), problem))


def names_files(column: str) -> bool:
    """Whether a column names files.

    >>> [names_files(name) for name in ("file_name", "image_file_name", "file_names", "filename")]
    [True, True, True, False]
    """
    return column.endswith(NAMES) and (column in NAMES or column.removesuffix("s").endswith("_file_name"))


def locate(folder: str, name: str) -> str | None:
    r"""Return the path below the folder that is read; None if it leads out.

    >>> locate("a", "b/../c.jpg"), locate("a", "../c.jpg"), locate("a", "../../c.jpg"), locate("", "/etc/passwd")
    ('a/c.jpg', 'c.jpg', None, None)
    >>> locate("", "a\\b.jpg"), locate("", "C:\\b.jpg")
    ('a/b.jpg', None)
    """
    name = name if "/" in name else name.replace("\\", "/")
    if os.path.isabs(name) or name[1:3] == ":/" or "\0" in name:
        return None
    path = posixpath.normpath(posixpath.join(folder, name))
    return None if path == ".." or path.startswith("../") else path


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Rows of a CSV file whose first row names the columns; separated by commas, else semicolons or tabs.

    Columns of numbers, truth values and dates become such, except the names of files and captions.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        line = file.readline(1 << 16)
    separator = next((each for each in SEPARATORS if names_files_in(line, each)), ",")
    header = next(csv.reader([line], delimiter=separator), [])
    if not any(map(names_files, header)):
        raise ValueError(f"no column file_name, found {line.strip()[:60]!r}; name the columns in the first row")
    bad: list[str] = []

    def note(row: Any) -> str:
        bad.append(
            f"row {row.number}: {row.actual_columns} fields, but {row.expected_columns} columns; quote texts that hold commas"
        )
        return "skip"

    as_text = {name: pa.string() for name in header if names_files(name) or name in CAPTIONS}
    table = pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=note),
        convert_options=pyarrow.csv.ConvertOptions(column_types=as_text),
    )
    yield from ((0, text) for text in bad)
    yield from arrow_rows(table.to_batches(BATCH), 2)


def names_files_in(line: str, separator: str) -> bool:
    """Whether a header has a column of files if a separator divides it."""
    return any(map(names_files, next(csv.reader([line], delimiter=separator), [])))


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Rows of a file with one JSON object on each line."""
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield number, parse_row(line, f"row {number}")
                except ValueError as error:
                    yield number, printable(str(error))


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Rows of a Parquet file, without columns of nested values, as those of embedded media are."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        meta = file.metadata
        if sum(meta.row_group(number).total_byte_size for number in range(meta.num_row_groups)) > TABLE_BYTES:
            raise ValueError(f"has more than {TABLE_BYTES:,} bytes when unpacked; divide it")
        schema = file.schema_arrow
        wanted = [field.name for field in schema if is_plain(field.type)]
        if not any(map(names_files, wanted)):
            raise ValueError(f"no column file_name among {', '.join(schema.names)[:60]}; name the column so")
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    # texts that repeat are then held once, however often a hostile file repeats them
    with pq.ParquetFile(path, pre_buffer=False, read_dictionary=texts) as file:
        yield from arrow_rows(file.iter_batches(BATCH, columns=wanted, use_threads=False), 0)


def is_plain(kind: pa.DataType) -> bool:
    """Whether a column has values that fields or captions may have."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def arrow_rows(batches: Any, first: int) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    for batch in batches:
        columns = [column.to_pylist() for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield first, dict(zip(batch.schema.names, values, strict=True))
            first += 1


_READERS = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
