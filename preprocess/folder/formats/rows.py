"""Media in the rows of Parquet and Arrow files, as Hugging Face's `datasets` and img2dataset write them.

A column of media is a struct with `bytes` and `path`, or bytes in a column that is named like a medium. Captions and
fields are the other columns of the row; a `.json` beside the medium gets them.
"""

import datetime
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cart_fairseq.base.media_types import HEAD, suffix_of, type_of_content
from preprocess.folder.formats.pieces import Piece, Problem
from preprocess.folder.limits import CAPTIONS, FIELDS, PACKED_LETTERS, READ_BYTES
from preprocess.folder.listing import PARQUET, looks_like_medium
from preprocess.folder.tables import is_plain

BATCH = 16
"""Rows in memory, because a row may be a video."""
NAMED = frozenset("image img picture photo audio sound video clip media file content bytes data".split())  # noqa: SIM905
"""Names of columns of plain bytes that are media, besides endings such as `jpg`."""
KEYS = ("key", "__key__", "file_name", "id")
"""Columns that name a row, in the order in which they are asked."""
TEXT = "txt"
"""Column of img2dataset that has the caption."""


def media_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold media.

    >>> media_columns(pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "jpg": pa.binary()}))
    ['image', 'jpg']
    """
    return [field.name for field in schema if _is_struct(field.type) or (_is_bytes(field.type) and _named(field.name))]


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(each.name == "bytes" and _is_bytes(each.type) for each in kind)


def _named(column: str) -> bool:
    name = column.lower()
    return name in NAMED or looks_like_medium(f"a.{name}") or name.endswith(("_bytes", "_data"))


def schema_of(path: Path) -> pa.Schema:
    """Return the schema of a file. pyarrow's errors for damaged files have many types."""
    if path.suffix.lower() == PARQUET:
        return pq.read_schema(path)
    with pa.memory_map(str(path)) as source:
        return _open_arrow(source).schema


def _open_arrow(source: pa.MemoryMappedFile) -> Any:
    """Open an Arrow file; `datasets` writes streams."""
    begin = source.read(6)
    source.seek(0)
    return pa.ipc.open_file(source) if begin == b"ARROW1" else pa.ipc.open_stream(source)


def row_pieces(path: Path) -> Iterator[Piece | Problem]:
    """Yield the media in a file, and the texts beside them. pyarrow's errors for damaged files have many types."""
    schema, modified, first = schema_of(path), path.stat().st_mtime, 0
    media, labels = media_columns(schema), label_names(schema)
    plain = [field.name for field in schema if is_plain(field.type)]
    for batch in _batches(path, [*media, *plain]):
        batch.validate(full=True)  # offsets in a stranger's file may lead anywhere
        columns = {name: batch.column(name).to_pylist() for name in (*media, *plain)}
        for place in range(batch.num_rows):
            row = {name: columns[name][place] for name in plain}
            row |= {name: names[row[name]] for name, names in labels.items() if _is_index(row.get(name), names)}
            held = {name: columns[name][place] for name in media}
            yield from _of_row(first + place, held, row, modified)
        first += batch.num_rows


def _batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if path.suffix.lower() == PARQUET:
        # Without pre-buffering and with a small buffer, or a whole row group would be read ahead.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            yield from file.iter_batches(BATCH, columns=list(columns), use_threads=False)
        return
    with pa.memory_map(str(path)) as source:
        reader = _open_arrow(source)
        is_file = hasattr(reader, "num_record_batches")
        for batch in map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader:
            for start in range(0, batch.num_rows, BATCH):
                yield batch.select(list(columns)).slice(start, BATCH)


def label_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of labels that `datasets` keeps as numbers, by column.

    >>> features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    >>> label_names(pa.schema({"label": pa.int64()}, metadata={"huggingface": json.dumps(features)}))
    {'label': ['cat', 'dog']}
    """
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        found = {name: each.get("names") for name, each in features.items() if isinstance(each, dict)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, list)}


def _is_index(value: Any, names: Sequence[Any]) -> bool:
    return type(value) is int and 0 <= value < len(names) and isinstance(names[value], str)


def _of_row(number: int, held: Mapping[str, Any], row: Mapping[str, Any], modified: float) -> Iterator[Piece | Problem]:
    """Yield the media of a row, each with its texts.

    Args:
        held: column -> medium.
        row: the other columns.
    """
    for place, (column, value) in enumerate(held.items()):
        where = f"row {number}, column {column}"
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        path = path if isinstance(path, str) else ""
        if not content:
            yield Problem(where, _why_empty(path, row))
            continue
        kind = type_of_content(content[:HEAD])
        ending = suffix_of(kind) if kind else posixpath.splitext(path)[1].lower()
        if not kind and not looks_like_medium(f"a{ending}"):
            yield Problem(where, "is no picture, sound or video of a format that is known; replace it")
            continue
        keys = (str(row[name]) for name in KEYS if isinstance(row.get(name), str | int) and str(row[name]).strip())
        name = posixpath.basename(path.replace("\\", "/")) or next(keys, "") or f"{number:08d}"
        stem = posixpath.splitext(name)[0] if looks_like_medium(name) else name
        sample = (number, column)
        shown = f"{stem}-{column}" if place else stem
        yield Piece(sample, shown, ending, iter([content]), modified, where)
        if isinstance(row.get(TEXT), str):
            text = row[TEXT][:PACKED_LETTERS].encode("utf-8", "replace")
            yield Piece(sample, shown, ".txt", iter([text]), modified, where)
        fields = json.dumps(_kept(row), default=str).encode()
        yield Piece(sample, shown, ".json", iter([fields]), modified, where)


def _why_empty(path: str, row: Mapping[str, Any]) -> str:
    said = row.get("error_message") or row.get("status")
    if isinstance(said, str):
        return f"holds no medium ({said[:100]})"
    if path:
        return f"holds only the path {path[:100]!r}, which is not followed; embed the files (Dataset.save_to_disk does)"
    return "holds no medium"


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row for its `.json`: texts and lists cut, dates as texts."""
    kept: dict[str, Any] = {}
    for name, value in list(row.items())[: 2 * FIELDS]:
        if isinstance(value, list):
            kept[name] = [_short(each) for each in value[:CAPTIONS]]
        elif value is not None and name != TEXT:
            kept[name] = _short(value)
    return kept


def _short(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value[:PACKED_LETTERS] if isinstance(value, str) else value
