"""The step `extract_embeddings`: a frozen encoder computes an embedding of length 1 for each medium or text.

Worker processes read the media. `build_identifiers` and `examples/own_data` read the files that are written. An
interrupted run continues from `OUTPUT.partial/` when it is repeated.
"""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import digest, sha256, write_jsonl
from cart_fairseq.base.progress import Progress
from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.base.wording import counted
from preprocess.data.embeddings import open_array
from preprocess.data.inputs import read_captions, read_items
from preprocess.data.output import Output
from preprocess.data.row_store import RowStore
from preprocess.encoders import embedded_files as written
from preprocess.encoders.base import Encoder, MediaSample, first_of
from preprocess.encoders.given_items import lists_of
from preprocess.encoders.loading import load_encoder, weights_stamp
from preprocess.encoders.media_loading import MediaBatches, load_batches, stamp
from preprocess.encoders.settings import EmbeddingSettings
from preprocess.media.folder import refuse_outside


class NothingEmbedded(ValueError):
    """None of the media can be embedded."""


@dataclass(frozen=True)
class ExtractedEmbeddings:
    """What `extract_embeddings` or `extract_text_embeddings` has done.

    Attributes:
        path: the folder or file.
        is_new: False if it was there already, made from the same files with the same settings.
        rows: number of embeddings.
        dimension: width of an embedding.
        skipped: item id -> why the item has no row.
        summary: the result as text.
    """

    path: Path
    is_new: bool
    rows: int
    dimension: int
    skipped: Mapping[str, str]
    summary: str


@checks_settings
def extract_embeddings(
    items: str | Path, output: str | Path, settings: EmbeddingSettings, *, captions: str | Path | None = None
) -> ExtractedEmbeddings:
    """Embed the media of items. If `output` was made from the same media and settings, nothing is done.

    Args:
        items: `items.jsonl`, whose media are relative to it; or whatever `read_folder` takes. Its lists are then written
            to `OUTPUT.lists/`, unpacked media to `OUTPUT.lists.media/`.
        output: a folder. It receives `embeddings.npy`, `items.jsonl` with the items that have a row, and
            `skipped.jsonl` with the others.
        settings: see `EmbeddingSettings`.
        captions: `captions.jsonl` of the items; None: those that `read_folder` finds, if it reads the items. The captions of
            items that have a row are written to `output` too.

    Raises:
        ValueError: an input is wrong; media cannot be read and `on_error` is `fail`, or none can be; the encoder cannot
            be loaded or does not take such media; `output` holds something else, or another run is writing it.
    """
    out = Output(output, written.MEDIA_ROWS)
    out.refuse_foreign()
    source, captions = lists_of(Path(items), captions, out.path, settings.workers)
    rows = read_items(source)
    refuse_outside(rows, source, settings.media_within)
    texts = read_captions(captions, rows) if captions else None
    samples = media_of(rows, source, settings.modality)
    stamps = batch_stamps(samples, settings.batch_size)
    rows_from = rows_made_from(settings, source)
    made_from = rows_from | {
        "captions": sha256(captions) if captions else None,
        "media": hashlib.sha256(stamps.tobytes()).hexdigest(),
        "dtype": settings.dtype,
        "location": os.path.relpath(source.parent.resolve(), out.path.resolve()),
    }
    if not must_not_skip(out, settings) and out.is_current(made_from):
        return of_folder(out.path, False, f"{out.path}: up to date with these media and settings, nothing to do")
    with out.working(digest(rows_from)) as work:
        modalities = {sample.modality for sample in samples}
        encoder = announce(settings, modalities)
        store = RowStore(work, len(rows), encoder.dimension, stamps, settings.batch_size)
        embed_media(encoder, samples, store, settings, source)
        if len(store.problems) == len(rows):
            raise NothingEmbedded(f"{source}: no item could be embedded; the first: {store.problems[0]}")
        with out.replacing() as new:
            write_folder(new, out.path, source, rows, texts, store, settings.dtype)
            files, record = sorted(new.iterdir()), written.folder_record(new)
            written.write_record(record, made_from, files, len(store.problems), modalities)
    if store.problems:
        skipped = out.path / written.SKIPPED
        print(f"skipped {counted(len(store.problems), 'item')}, see {skipped}; the first:", file=sys.stderr)
        first = min(store.problems)
        print(f"  {plainly(store.problems[first], rows[first], source)}", file=sys.stderr)
    kept = len(rows) - len(store.problems)
    text = f"{out.path}: {kept} item{'' if kept == 1 else 's'} of {len(rows)}, {encoder.dimension} dimensions, {settings.dtype}"
    return of_folder(out.path, True, text)


@checks_settings
def extract_text_embeddings(texts: str | Path, output: str | Path, settings: EmbeddingSettings) -> ExtractedEmbeddings:
    """Embed the texts of a file. If `output` was made from the same texts and settings, nothing is done.

    Args:
        texts: `captions.jsonl`, or any file with one JSON object a line that has a `text`.
        output: a `.npy` file; row i belongs to line i. Its record, `OUTPUT.json`, lies beside it.
        settings: see `EmbeddingSettings`. `modality` is that of the media that the texts are to find; None means image.

    Raises:
        ValueError: a text is missing or empty; the encoder cannot be loaded or takes no texts; `output` has another
            name, was not written by this step, or is being written by another run.
    """
    source, out = Path(texts), Output(output, written.TEXT_ROWS)
    if out.path.suffix != ".npy":
        raise ValueError(f"--output {out.path} must end in .npy; the rows of texts are one file")
    rows = read_jsonl(source)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise ValueError(f"{source}, row {number}: text is {row.get('text')!r}; write a text or drop the row")
    if not rows:
        raise ValueError(f"{source}: no texts; write one object a line")
    rows_from = rows_made_from(settings, source)
    made_from = rows_from | {"dtype": settings.dtype}
    if out.is_current(made_from):
        count, dimension = open_array(out.path).shape
        text = f"{out.path}: up to date with these texts and settings, nothing to do"
        return ExtractedEmbeddings(out.path, False, count, dimension, {}, text)
    with out.working(digest(rows_from)) as work:
        encoder = announce(settings, {"text"})
        batches = -(-len(rows) // settings.batch_size)
        store = RowStore(work, len(rows), encoder.dimension, np.ones(batches, dtype=np.uint64), settings.batch_size)
        embed_texts(encoder, [row["text"] for row in rows], store, settings.modality or "image")
        with out.replacing() as new:
            written.save_rows(new, store.values, np.arange(len(rows)), settings.dtype)
            written.write_record(
                out.record, made_from, [new], 0
            )  # the record first, because a file without one is refused
    text = f"{out.path}: {len(rows)} texts, {encoder.dimension} dimensions, {settings.dtype}"
    return ExtractedEmbeddings(out.path, True, len(rows), encoder.dimension, {}, text)


def of_folder(folder: Path, is_new: bool, summary: str) -> ExtractedEmbeddings:
    """Return the result that describes a folder of media embeddings."""
    rows, dimension = open_array(folder / written.EMBEDDINGS).shape
    skipped = {row["item_id"]: row["reason"] for row in read_jsonl(folder / written.SKIPPED)}
    return ExtractedEmbeddings(folder, is_new, rows, dimension, skipped, summary)


def must_not_skip(out: Output, settings: EmbeddingSettings) -> bool:
    """Whether an earlier run skipped items, and `on_error` is `fail` now."""
    if settings.on_error != "fail" or not out.record.is_file():
        return False
    try:
        return bool(written.read_record(out.record)["skipped"] > 0)
    except ValueError:  # `Output.is_current` says what is wrong, and the embeddings are made again
        return False


def write_folder(
    new: Path,
    output: Path,
    source: Path,
    items: Sequence[dict[str, Any]],
    captions: Sequence[dict[str, Any]] | None,
    store: RowStore,
    dtype: str,
) -> None:
    """Write the embeddings, the list of their items, and the list of items that were skipped.

    Args:
        new: the folder to write to.
        output: its final path, to which media paths become relative.
        source: items.jsonl.
    """
    problems = store.problems
    kept = np.setdiff1d(np.arange(len(items)), list(problems))
    written.save_rows(new / written.EMBEDDINGS, store.values, kept, dtype)
    write_jsonl(new / written.ITEMS, [written.relocated(items[row], source, output) for row in kept])
    if captions is not None:
        names = {items[row]["item_id"] for row in kept}
        write_jsonl(new / written.CAPTIONS, [row for row in captions if row["item_id"] in names])
    skipped = [
        {"item_id": items[row]["item_id"], "reason": plainly(problems[row], items[row], source)}
        for row in sorted(problems)
    ]
    write_jsonl(new / written.SKIPPED, skipped)


def plainly(problem: str, item: Mapping[str, Any], source: Path) -> str:
    """Return what is wrong with an item's media, with their path as a person would write it, without `..`."""
    path = source.parent / item["media"]
    plain = os.path.normpath(os.path.join(os.path.realpath(source.parent), item["media"]))
    return problem.replace(str(path), plain) if ".." in path.parts else problem


def media_of(items: Sequence[dict[str, Any]], path: Path, modality: str | None) -> list[MediaSample]:
    """Return the file of each item. Media paths are relative to the folder of the list."""
    samples = []
    for number, item in enumerate(items, start=1):
        where = f"{path}, row {number}"
        if not item.get("media"):
            raise ValueError(
                f"{where}: item {item['item_id']!r} has no media to embed; add its file or remove the item"
            )
        kind = item.get("modality") or modality
        if kind is None:
            raise ValueError(
                f"{where}: item {item['item_id']!r} has no modality; add it, or give --modality for all such items"
            )
        samples.append(MediaSample(kind, str(path.parent / item["media"])))
    return samples


def batch_stamps(samples: Sequence[MediaSample], batch_size: int) -> NDArray[np.uint64]:
    """Return the `stamp` of each batch."""
    starts = range(0, len(samples), batch_size)
    return np.array([stamp(samples[start : start + batch_size]) for start in starts], dtype=np.uint64)


def rows_made_from(settings: EmbeddingSettings, source: Path) -> dict[str, Any]:
    """Return everything that the embeddings depend on, except the content of media."""
    return {
        "encoder": settings.encoder,
        "weights": weights_stamp(settings.encoder),
        "source": sha256(source) if source.is_file() else None,
        "modality": settings.modality,
        "frames": settings.frames,
        "batch_size": settings.batch_size,
        "precision": settings.precision,
    }


def announce(settings: EmbeddingSettings, modalities: set[str]) -> Encoder:
    """Load the encoder, refuse modalities that it does not accept, and print what runs."""
    encoder = load_encoder(settings.encoder, settings.device, settings.precision, settings.frames)
    for modality in sorted(modalities):
        encoder.check(modality)
    print(f"{settings.encoder}: {encoder.dimension} dimensions, on {encoder.device}, {settings.precision}")
    return encoder


def embed_texts(encoder: Encoder, texts: Sequence[str], store: RowStore, searched: str) -> None:
    """Embed all texts that are not in the store yet; see `Encoder.embed_text`."""
    pending = store.pending()
    ahead = sum(len(store.rows_of(number)) for number in pending)
    with Progress(len(texts), "embedding", "texts", done=len(texts) - ahead) as progress:
        progress.foresee(lambda: encoder.embed_text([texts[-1]], searched))
        for number in pending:
            places = store.rows_of(number)
            store.keep(number, places, encoder.embed_text([texts[row] for row in places], searched), {})
            progress.update(len(places))


def embed_media(
    encoder: Encoder, samples: Sequence[MediaSample], store: RowStore, settings: EmbeddingSettings, source: Path
) -> None:
    """Embed all media that are not in the store yet.

    Args:
        source: items.jsonl, for messages.

    Raises:
        ValueError: a file cannot be embedded and `on_error` is `fail`.
    """

    def fail_or_go_on(problems: dict[int, str]) -> None:
        if problems and settings.on_error == "fail":
            row = min(problems)
            raise ValueError(f"{source}, row {row + 1}: {problems[row]}; --on-error skip leaves such items out")

    assert encoder.reader is not None
    pending = store.pending()
    fail_or_go_on({row: why for row, why in store.problems.items() if row // settings.batch_size not in set(pending)})
    dataset = MediaBatches(encoder.reader, samples, [(number, store.rows_of(number)) for number in pending])
    ahead = sum(len(rows) for _, rows in dataset.batches)
    with Progress(len(samples), "embedding", "items", done=len(samples) - ahead) as progress:
        foreseen = False
        for loaded in load_batches(dataset, settings.workers, encoder.device.type == "cuda"):
            if loaded.batches and not foreseen:
                progress.foresee(partial(encoder.embed_batch, first_of(loaded.batches[0])))
                foreseen = True
            places: list[int] = []
            parts = [np.empty((0, encoder.dimension), dtype=np.float32)]
            problems = dict(loaded.problems)
            for batch in loaded.batches:
                values = encoder.embed_batch(batch)
                good = np.isfinite(values).all(axis=1) & values.any(axis=1)
                for row in np.asarray(batch.places)[~good].tolist():
                    problems[row] = f"{samples[row].path}: the encoder gave no finite values; try --precision float32"
                places += np.asarray(batch.places)[good].tolist()
                parts.append(values[good])
            fail_or_go_on(problems)
            store.keep(loaded.number, places, np.concatenate(parts), problems)
            progress.update(len(store.rows_of(loaded.number)))
