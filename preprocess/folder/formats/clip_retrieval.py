"""What clip-retrieval writes: `img_emb/img_emb_0.npy` …, and `metadata/metadata_0.parquet` … with a row for each of its rows.

`preprocess.data.embeddings.open_embeddings` reads the vectors. Here the metadata become items.jsonl and captions.jsonl.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pyarrow.parquet as pq

from cart_fairseq.base.files import digest, remove_scratch, replacing, write_json
from cart_fairseq.base.progress import Progress
from cart_fairseq.base.reading import read_json
from preprocess.data.embeddings import CLIP_ROWS, in_order, open_array
from preprocess.data.inputs import ItemsFile, check_id
from preprocess.folder.formats.pieces import Damaged, unpacking
from preprocess.folder.tables import arrow_rows, is_plain
from preprocess.folder.texts import clean
from preprocess.folder.values import metadata_fields

METADATA = "metadata"
ITEMS, CAPTIONS, RECORD = "items.jsonl", "captions.jsonl", "clip_retrieval.json"
IDS = ("key", "image_path")
"""Columns that name an item; the first that there is."""
CAPTION = "caption"
BATCH = 1024
VERSION = 1


class Lists(NamedTuple):
    """Lists of the items of embeddings.

    Attributes:
        items: items.jsonl; line i describes row i.
        captions: captions.jsonl; None if no item has a caption.
    """

    items: Path
    captions: Path | None


def lists_folder(output: Path) -> Path:
    """Where a step writes lists that nobody gave it, beside its output."""
    return output.with_name(f"{output.name}.lists")


def is_clip_retrieval(folder: Path) -> bool:
    """Whether a folder holds image embeddings of clip-retrieval and their metadata."""
    return (folder / CLIP_ROWS).is_dir() and (folder / METADATA).is_dir()


def list_items(folder: Path, output: Path) -> Lists:
    """Write items.jsonl and captions.jsonl of the metadata, if they have changed.

    Args:
        folder: the folder of clip-retrieval.
        output: a folder for the lists, replaced if it was written by this function.

    Raises:
        ValueError: files of embeddings and metadata do not match, are damaged or name no items; `output` holds something
            else.
    """
    pairs = shard_pairs(folder)
    made_from = {"version": VERSION, "files": digest([_stamp(path) for pair in pairs for path in pair])}
    if output.exists() and not (output / RECORD).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output}: holds other files, but the lists of items are written to this name; move it away")
    record: dict[str, Any] = {}
    with suppress(ValueError):
        record = read_json(output / RECORD)
    lists = [output / ITEMS, output / CAPTIONS]
    if record.get("made_from") != made_from or not all(path.is_file() for path in lists):
        remove_scratch(output.parent, output.name)
        with replacing(output, directory=True) as new:
            counts = _write(pairs, new)
            write_json(new / RECORD, {"made_from": made_from, **counts})
        print(f"{output}: {counts['items']:,} items and {counts['captions']:,} captions of {folder / METADATA}")
    return Lists(lists[0], lists[1] if lists[1].stat().st_size else None)


def _stamp(path: Path) -> list[Any]:
    status = path.stat()
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns]


def shard_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return the files of embeddings in order, each with its metadata.

    Raises:
        ValueError: there are none, or a file has no counterpart.
    """
    rows = in_order(path for path in (folder / CLIP_ROWS).iterdir() if path.suffix == ".npy")
    tables = in_order(path for path in (folder / METADATA).iterdir() if path.suffix == ".parquet")
    if not rows:
        raise ValueError(f"{folder / CLIP_ROWS}: no .npy files; run clip-retrieval's inference with images")
    wanted = [f"{METADATA}{path.stem.removeprefix(CLIP_ROWS)}.parquet" for path in rows]
    known = {path.name: path for path in tables}
    lacking = next((pair for pair in zip(rows, wanted, strict=True) if pair[1] not in known), None)
    if lacking is not None:
        raise ValueError(f"{lacking[0]}: no {folder / METADATA / lacking[1]} beside it; copy the file again")
    alone = sorted(known.keys() - {*wanted})
    if alone:
        raise ValueError(f"{known[alone[0]]}: no embeddings in {folder / CLIP_ROWS} belong to it; copy them again")
    return [(path, known[name]) for path, name in zip(rows, wanted, strict=True)]


def _write(pairs: list[tuple[Path, Path]], new: Path) -> dict[str, int]:
    """Write both lists; return the numbers of items and captions."""
    items = captions = 0
    with (
        open(new / ITEMS, "w", encoding="utf-8", newline="\n") as items_file,
        open(new / CAPTIONS, "w", encoding="utf-8", newline="\n") as captions_file,
        Progress(None, "reading metadata", "items") as progress,
    ):
        for vectors, table in pairs:
            expected, before = len(open_array(vectors)), items
            for number, row in _rows(table):
                item_id, caption = _item_id(table, number, row), clean(row.get(CAPTION))
                said = {CAPTION: caption} if caption else {}
                _write_line(items_file, {"item_id": item_id, "modality": "image", **said, **metadata_fields(row)})
                if caption:
                    said = {"item_id": item_id, "caption_id": f"{item_id}#0", "text": caption, "source": METADATA}
                    _write_line(captions_file, said)
                    captions += 1
                items += 1
                progress.update()
            if items - before != expected:
                raise ValueError(
                    f"{vectors}: {expected:,} rows, but {table} has {items - before:,}; copy both files again"
                )
    try:
        ItemsFile(new / ITEMS)
    except ValueError as error:
        said_of = str(error).removeprefix(f"{new / ITEMS}, ")
        where = f"{pairs[0][1].parent}, counted over all of its files from 1"
        raise ValueError(f"{where}, {said_of}, or give --items with ids of your own") from None
    return {"items": items, "captions": captions}


def _write_line(file: TextIO, row: dict[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rows(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a table, with their numbers.

    Raises:
        ValueError: it is damaged, or has no column that names items.
    """
    try:
        with unpacking():
            file = pq.ParquetFile(table, pre_buffer=False)
        with file:
            names = [field.name for field in file.schema_arrow if is_plain(field.type)]
            if not any(name in names for name in IDS):
                raise ValueError(f"{table}: no column {' or '.join(IDS)} among {', '.join(names)[:100]}; give --items")
            found = arrow_rows(file.iter_batches(BATCH, columns=names, use_threads=False), 0)
            while True:
                with unpacking():
                    each = next(found, None)
                if each is None:
                    return
                if isinstance(each[1], Mapping):
                    yield each[0], dict(each[1])
    except Damaged as error:
        raise ValueError(f"{table}: {error}") from None


def _item_id(table: Path, number: int, row: dict[str, Any]) -> str:
    """The id in a row: the first of the columns that has a value."""
    value = next((row[name] for name in IDS if row.get(name) not in (None, "")), None)
    shown = str(value) if isinstance(value, int) else value
    return check_id(f"{table}, row {number}", " or ".join(IDS), shown)
