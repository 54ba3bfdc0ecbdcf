"""Takes over what has changed in a folder since its catalogue was made: items come and go, nothing is trained."""

import shutil
from collections.abc import Collection
from pathlib import Path

from calls import make, step
from folder_catalogue import Known, check_embedded, check_same
from folder_lists import Rows, is_described, listing, media_of, texts_of
from plan import checkpoint_of
from preparing import embedding, served
from settings import Settings

from cart_fairseq.base.files import write_jsonl
from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.base.wording import counted
from cart_fairseq.catalogue.data_bin import DataBin
from preprocess import update_identifiers
from preprocess.encoders.extract import NothingEmbedded

SHOWN = 5
"""Ids in a message."""
MANY = 0.5
"""Share of new items above which a new catalogue is worth its training."""


def take_over(folder: Path, out: Path, known: Known, settings: Settings) -> None:
    """Bring the catalogue in ``out`` to the state of the folder. Stopped at any moment, the next call goes on.

    Raises:
        ValueError: another encoder or captioner is asked for than that of the catalogue, no item of the catalogue is as
            it was, or a step refuses its input.
    """
    encoder, lists = check_same(out, settings), out / "folder"
    make({f"1. what is new in {folder}": listing(folder, lists)})
    now = Known.of(out)
    data = DataBin(out / "data-bin")
    there = {data.bundle.item_id(row) for row in data.bundle.kept.tolist()}
    coming = {name for name, digest in now.digests.items() if known.digests.get(name) != digest}
    going = sorted(name for name in there if name not in now.digests or name in coming)
    left_out = sorted(now.digests.keys() - there - coming)
    if left_out:
        print(
            f"{counted(len(left_out), 'item')} of the folder not in the catalogue, because an earlier run could not embed "
            f"{'it' if len(left_out) == 1 else 'them'}: {', '.join(left_out[:SHOWN])}{' …' * (len(left_out) > SHOWN)}"
        )
    if not coming and not going:
        print(f"{out}: {len(there):,} items, as in {folder}; nothing to do")
        now.write(out)
        return
    if len(going) == len(there):
        raise ValueError(
            f"{out}: all of its {len(there):,} items are gone from {folder} or have changed, in size, time, texts or "
            "metadata; choose another OUT"
        )
    described = data.has_captions
    checkpoint = ["--path", checkpoint_of(out / "checkpoints")] if described else []
    target = ["--data-bin", out / "data-bin", *checkpoint]
    new = out / "new"
    shutil.rmtree(new, ignore_errors=True)
    embedded = embed(coming, lists, new, encoder, settings) if coming else []
    if embedded:
        check_embedded(new / "embeddings", out / "data")
    if going:
        verbs = "is gone or has changed" if len(going) == 1 else "are gone or have changed"
        step(f"3. {counted(len(going), 'item')} that {verbs}")
        write_jsonl(out / "gone.jsonl", [{"item_id": name} for name in going])
        update("remove", *target, "--item-ids-from", out / "gone.jsonl")
        (out / "gone.jsonl").unlink()
    if embedded:
        verbs = "is new or has changed" if len(embedded) == 1 else "are new or have changed"
        step(f"4. {counted(len(embedded), 'item')} that {verbs}")
        texts = texts_of(new / "embeddings") if texts_of(new) else None
        write_jsonl(new / "items.jsonl", served(new / "embeddings", media_of(folder, out), texts))
        captions = ["--captions", texts] if described and texts else []
        update(
            "add",
            *target,
            "--embeddings",
            new / "embeddings" / "embeddings.npy",
            "--items",
            new / "items.jsonl",
            *captions,
        )
    now.write(out)
    shutil.rmtree(new, ignore_errors=True)
    advise(out, described)


def advise(out: Path, described: bool) -> None:
    """Say so where another OUT would find items better by text."""
    rows = DataBin(out / "data-bin").bundle.kept
    trained = len(read_jsonl(out / "data" / "items.jsonl"))  # items that come get the rows behind
    if described and (rows >= trained).sum() > MANY * len(rows):
        print("most items came after training; another OUT trains with all of them, and finds them better by text")
    elif not described and is_described(out / "folder" / "captions.jsonl"):
        print("texts describe the items now; another OUT trains a model that reads texts")


def embed(coming: Collection[str], lists: Path, new: Path, encoder: str, settings: Settings) -> Rows:
    """Embed the media of items that come; return the rows of those that could be read."""
    new.mkdir()
    for name in ("items.jsonl", "captions.jsonl"):
        write_jsonl(new / name, [row for row in read_jsonl(lists / name) if row["item_id"] in coming])
    call = embedding(new / "items.jsonl", texts_of(new), encoder, new / "embeddings", settings)
    try:
        make({f"2. embeddings: {encoder}": call})
    except NothingEmbedded as error:
        print(f"{error}; the catalogue goes without them until they change")
        return []
    return read_jsonl(new / "embeddings" / "items.jsonl")


def update(*arguments: object) -> None:
    """Call ``update_identifiers``."""
    update_identifiers.main([str(each) for each in arguments])
