"""Embed media, or texts: `python -m preprocess.extract_embeddings --help`.

Media are read by worker processes and go through a frozen encoder of `preprocess.encoders`, one row of length 1 an item.
What is written is what `examples/own_data` and `preprocess.build_identifiers` take. A run that is killed goes on from
`OUTPUT.partial/` when the command is given again; a run whose output is already there, from the same files and settings,
does nothing.

Weights come from a folder or the hub. Without network, give a folder (`clip:/models/clip-vit-base-patch32`), or set
HF_HUB_OFFLINE=1 to use what was downloaded before (HF_HOME says where that is).
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.files import digest, read_jsonl, replacing, run_script, sha256
from cart_fairseq.progress import Progress, track
from preprocess.data.arguments import positive
from preprocess.data.fields import MODALITIES
from preprocess.data.inputs import read_captions, read_items
from preprocess.data.row_store import RowStore
from preprocess.data.working_folder import remove, remove_leftovers, working_folder
from preprocess.encoders import FAMILIES, Encoder, MediaSample, load_encoder, weights_stamp
from preprocess.encoders.base import PRECISIONS
from preprocess.encoders.embedded_files import (
    RECORD,
    check_output,
    is_current,
    relocated,
    save_rows,
    write_record,
    write_rows,
)
from preprocess.encoders.media_loading import MediaBatches, load_batches, stamp


def workers(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.extract_embeddings",
        description="Embed the media of items, or texts, with a pretrained encoder.",
        epilog="Weights come from a folder or the hub. Without network give a folder, or set HF_HUB_OFFLINE=1 to use what "
        "was downloaded before.",
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--items", type=Path, help="items.jsonl whose media, relative to it, are embedded")
    what.add_argument("--texts", type=Path, help="captions.jsonl whose texts are embedded instead, one row a line")
    names = "FAMILY or FAMILY:NAME_OR_PATH, of the families " + ", ".join(FAMILIES)
    names += "; NAME is one on the hub, PATH a local folder; also openclip:MODEL@TAG_OR_FILE, imagebind:WEIGHTS.pth"
    add("--encoder", required=True, help=names)
    add("--output", type=Path, required=True, help="folder of embeddings.npy and its lists; with --texts a .npy file")
    add("--captions", type=Path, help="captions.jsonl of the items; those of the items kept are written too")
    modality = "of items that name none (image, audio, video); with --texts: of the media that the texts are to find"
    add("--modality", choices=MODALITIES, help=modality)
    add("--frames", type=positive, help="frames of a video, evenly spaced (the encoder's own number, else 12)")
    add("--batch-size", type=positive, default=32, help="items or texts through the encoder at a time (32)")
    processes = min(8, os.cpu_count() or 1)
    add(
        "--workers",
        type=workers,
        default=processes,
        help=f"processes that read media, a batch each; 0: none ({processes})",
    )
    add("--device", default="auto", help="auto (default: cuda where there is one), cpu, cuda, cuda:1 …")
    add("--precision", choices=PRECISIONS, default="float32", help="of the encoder's products, by autocast (float32)")
    on_error = (
        "media that cannot be read: fail (default), or skip: list them in skipped.jsonl and go on without the item"
    )
    add("--on-error", choices=("fail", "skip"), default="fail", help=on_error)
    add("--dtype", choices=("float16", "float32"), default="float32", help="of embeddings.npy (float32)")
    args = parser.parse_args(argv)
    if args.texts and args.captions:
        parser.error("argument --captions: goes with --items; with --texts all texts are embedded")
    if args.texts and args.output.suffix != ".npy":
        parser.error(f"argument --output: {args.output} must end in .npy, the texts' rows are one file")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parse(argv)
    if args.texts:
        embed_texts(args)
    else:
        embed_items(args)


def embed_items(args: argparse.Namespace) -> None:
    """`--items`."""
    items = read_items(args.items)
    captions = read_captions(args.captions, items) if args.captions else None
    samples = media_of(items, args.items, args.modality)
    check_output(args.output)
    stamps = batch_stamps(samples, args.batch_size)
    settings = settings_of(args, args.items)
    made_from = settings | {
        "captions": sha256(args.captions) if args.captions else None,
        "media": hashlib.sha256(stamps.tobytes()).hexdigest(),
        "dtype": args.dtype,
        "location": os.path.relpath(args.items.parent.resolve(), args.output.resolve()),
    }
    record = args.output / RECORD
    if is_current(record, made_from, args.on_error):
        remove_leftovers(args.output)
        print(f"{args.output}: up to date with these media and settings, nothing to do")
        return
    with working_folder(args.output, digest(settings)) as work:
        encoder = announce(args, {sample.modality for sample in samples})
        store = RowStore(work, len(items), encoder.dimension, stamps, args.batch_size)
        embed_media(args, encoder, samples, store)
        problems = store.problems
        if len(problems) == len(items):
            raise ValueError(f"{args.items}: no item could be embedded; the first: {problems[0]}")
        kept = np.setdiff1d(np.arange(len(items)), list(problems))
        with replacing(args.output, directory=True) as new:
            save_rows(new / "embeddings.npy", store.values, kept, args.dtype)
            write_rows(new / "items.jsonl", [relocated(items[row], args.items, args.output) for row in kept])
            if captions is not None:
                names = {items[row]["item_id"] for row in kept}
                write_rows(new / "captions.jsonl", [row for row in captions if row["item_id"] in names])
            skipped = [{"item_id": items[row]["item_id"], "reason": problems[row]} for row in sorted(problems)]
            write_rows(new / "skipped.jsonl", skipped)
            write_record(new / RECORD, made_from, sorted(new.iterdir()), len(skipped))
        remove(work)
    if problems:
        print(f"skipped {len(problems)} items, see {args.output / 'skipped.jsonl'}; the first:", file=sys.stderr)
        print(f"  {problems[min(problems)]}", file=sys.stderr)
    print(f"{args.output}: {len(kept)} items of {len(items)}, {encoder.dimension} dimensions, {args.dtype}")


def media_of(items: Sequence[dict[str, Any]], path: Path, modality: str | None) -> list[MediaSample]:
    """The file of each item, relative to the list's folder."""
    samples = []
    for number, item in enumerate(items, start=1):
        where = f"{path}, row {number}"
        if not item.get("media"):
            raise ValueError(
                f"{where}: item {item['item_id']!r} has no media to embed; name its file, or drop the item"
            )
        kind = item.get("modality") or modality
        if kind is None:
            raise ValueError(
                f"{where}: item {item['item_id']!r} has no modality; add it, or give --modality for all such"
            )
        samples.append(MediaSample(kind, str(path.parent / item["media"])))
    return samples


def batch_stamps(samples: Sequence[MediaSample], batch_size: int) -> NDArray[np.uint64]:
    """`stamp` of each batch."""
    starts = range(0, len(samples), batch_size)
    return np.array([stamp(samples[start : start + batch_size]) for start in starts], dtype=np.uint64)


def settings_of(args: argparse.Namespace, source: Path) -> dict[str, Any]:
    """All that decides what the rows are, the media's content excepted."""
    return {
        "encoder": args.encoder,
        "weights": weights_stamp(args.encoder),
        "source": sha256(source) if source.is_file() else None,
        "modality": args.modality,
        "frames": args.frames,
        "batch_size": args.batch_size,
        "precision": args.precision,
    }


def announce(args: argparse.Namespace, modalities: set[str]) -> Encoder:
    """Load the encoder, refuse what it does not take, and say what runs."""
    encoder = load_encoder(args.encoder, args.device, args.precision, args.frames)
    for modality in sorted(modalities):
        encoder.check(modality)
    print(f"{args.encoder}: {encoder.dimension} dimensions, on {encoder.device}, {args.precision}")
    return encoder


def embed_media(args: argparse.Namespace, encoder: Encoder, samples: Sequence[MediaSample], store: RowStore) -> None:
    """Fill the store; with `--on-error fail` the first file that cannot be embedded ends it."""

    def fail_or_go_on(problems: dict[int, str]) -> None:
        if problems and args.on_error == "fail":
            row = min(problems)
            raise ValueError(
                f"{args.items}, row {row + 1}: {problems[row]}; --on-error skip goes on without such items"
            )

    assert encoder.reader is not None
    pending = store.pending()
    fail_or_go_on({row: why for row, why in store.problems.items() if row // args.batch_size not in set(pending)})
    dataset = MediaBatches(encoder.reader, samples, [(number, store.rows_of(number)) for number in pending])
    ahead = sum(len(rows) for _, rows in dataset.batches)
    with Progress(len(samples), "embedding", "items", len(samples) - ahead) as progress:
        for number, loaded, problems in load_batches(dataset, args.workers, encoder.device.type == "cuda"):
            places: list[int] = []
            parts = [np.empty((0, encoder.dimension), dtype=np.float32)]
            for batch in loaded:
                values = encoder.embed_batch(batch)
                good = np.isfinite(values).all(axis=1) & values.any(axis=1)
                for row in np.asarray(batch.places)[~good].tolist():
                    problems[row] = f"{samples[row].path}: the encoder gave no finite values; try --precision float32"
                places += np.asarray(batch.places)[good].tolist()
                parts.append(values[good])
            fail_or_go_on(problems)
            store.keep(number, places, np.concatenate(parts), problems)
            progress.update(len(store.rows_of(number)))


def embed_texts(args: argparse.Namespace) -> None:
    """`--texts`."""
    rows = read_jsonl(args.texts)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise ValueError(f"{args.texts}, row {number}: text is {row.get('text')!r}; write a text or drop the row")
    if not rows:
        raise ValueError(f"{args.texts}: no texts; write one object a line")
    settings = settings_of(args, args.texts)
    made_from, record = settings | {"dtype": args.dtype}, Path(f"{args.output}.json")
    if is_current(record, made_from, args.on_error):
        remove_leftovers(args.output)
        print(f"{args.output}: up to date with these texts and settings, nothing to do")
        return
    with working_folder(args.output, digest(settings)) as work:
        encoder = announce(args, {"text"})
        count = -(-len(rows) // args.batch_size)
        store = RowStore(work, len(rows), encoder.dimension, np.ones(count, dtype=np.uint64), args.batch_size)
        for number in track(store.pending(), "embedding", "batches"):
            places = store.rows_of(number)
            texts = [rows[row]["text"] for row in places]
            store.keep(number, places, encoder.embed_text(texts, args.modality or "image"), {})
        with replacing(args.output) as new:
            save_rows(new, store.values, np.arange(len(rows)), args.dtype)
        write_record(record, made_from, [args.output], 0)
        remove(work)
    print(f"{args.output}: {len(rows)} texts, {encoder.dimension} dimensions, {args.dtype}")


if __name__ == "__main__":
    run_script(main)
