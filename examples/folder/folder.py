"""A folder of media: from the files to a catalogue that is searched by text and by example, and is kept up to date."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import folder_changes
import folder_embeddings
from calls import check, counting, make, step
from fairseq_calls import check_folder
from folder_catalogue import Known, build_without_text, check_same, note_folder
from folder_lists import (
    LEAST_QUERIES,
    epochs_for,
    has_few,
    is_described,
    listing,
    media_of,
    not_told_apart,
    texts_of,
)
from plan import begun
from preparing import captioning, embedding, write_data
from serving import check_page, offer
from settings import Settings, from_environment
from steps import check_run, evaluate, train

from preprocess.folder.formats.clip_retrieval import is_clip_retrieval

SIZE = ("--fusion", "none", "--decoder-layers", "4")
"""Of the recommended recipe, as on Flickr8k."""


def run(folder: Path, out: Path, flags: Sequence[str]) -> None:
    """Like `make_or_take_over`, with steps that are numbered in the order in which they come."""
    with counting():
        make_or_take_over(folder, out, flags)


def make_or_take_over(folder: Path, out: Path, flags: Sequence[str]) -> None:
    """Make the catalogue of a folder, or take over what has changed in the folder since.

    Raises:
        ValueError: flags or variables are wrong, the folder holds no media, or ``out`` belongs to another folder.
        FairseqFailed: training ended with an error.
    """
    check_folder(out)
    check_page()
    inner, outer = out.resolve(), folder.resolve()
    if outer in (inner, *inner.parents):
        raise ValueError(
            f"{out}: lies inside {folder}, and its files would be taken for media; choose an OUT beside it"
        )
    settings = from_environment()
    settings = dataclasses.replace(settings, recipe=settings.recipe or "joined")
    user, data = list(flags), out / "data"
    flags = with_recipe(user, data, settings)
    known = Known.read(out, folder)
    check_run(data, out, flags, settings)
    if known is not None:
        before = begun(out)
        if before is not None and is_other(before, flags, user, settings):
            print("note: nothing is trained again, so other flags and another RECIPE need another OUT", file=sys.stderr)
        if is_clip_retrieval(folder):
            folder_embeddings.check_unchanged(folder, out, known)
        else:
            folder_changes.take_over(folder, out, known, settings)
        return
    if is_clip_retrieval(folder):
        folder_embeddings.prepare(folder, out, settings)
    else:
        prepare(folder, out, settings)
    if is_described(data / "captions.jsonl"):
        if settings.recipe == "joined" and has_few(data / "captions.jsonl"):
            settings = dataclasses.replace(settings, own_join=("--rare-words",))
        train(data, out, with_recipe(user, data, settings), settings)
        evaluate(out, least_queries=LEAST_QUERIES)
        for line in not_told_apart(data / "items.jsonl", data / "captions.jsonl"):
            print(line)
    else:
        step("3. no text model")
        print(
            "texts beside the files, metadata and names say too little to learn from, so no model that reads texts is "
            "trained: items are found by example. CAPTIONER=blip2 and another OUT let a model write captions"
        )
        build_without_text(out, settings)
    Known.of(out).write(out)


def with_recipe(user: Sequence[str], data: Path, settings: Settings) -> list[str]:
    """The flags of ``fairseq-train`` that this recipe adds, and the user's behind them."""
    if settings.recipe != "joined":
        return list(user)
    return [*SIZE, "--max-epoch", str(epochs_for(data / "captions.jsonl")), *user]


def is_other(before: Mapping[str, Any], flags: Sequence[str], user: Sequence[str], settings: Settings) -> bool:
    """Whether a model was trained with other flags of the user's, or another recipe. Epochs of our own may differ."""
    own = len(flags) - len(user)
    return before["sized_for"] != settings.recipe or before["call"][own:] != list(user)


def prepare(folder: Path, out: Path, settings: Settings) -> None:
    """List the folder, embed its media and let a captioner describe them, where one is named: ``out/data``.

    Once this is done, it is not done again, so that training goes on with what it began with.

    Raises:
        ValueError: the folder holds no media, a variable is wrong, or ``out/data`` was made with others.
    """
    lists, embedded, data = out / "folder", out / "embeddings", out / "data"
    if (data / "captions.jsonl").is_file():
        check_same(out, settings)
        print(f"{data}: complete, nothing to do")
        return
    encoder = settings.encoder or "plain"
    if encoder == "plain":
        print(
            "ENCODER is not set: features of the files themselves are used. They know colours, shapes and sounds, not what "
            "these mean, so texts find items by their captions. ENCODER=clip knows more; it loads a pretrained model"
        )
    make({f"1. what is in {folder}": listing(folder, lists)})
    note_folder(out, folder)
    texts = texts_of(lists)
    calls = {f"2. embeddings: {encoder}": embedding(lists / "items.jsonl", texts, encoder, embedded, settings)}
    captions = embedded / "captions.jsonl" if texts else None
    if settings.captioner:
        described = captioning(embedded, captions, settings.captioner, out / "captions.jsonl", settings)
        calls[f"2. captions: {settings.captioner}"], captions = described, out / "captions.jsonl"
    check(calls)
    make(calls)
    write_data(embedded, captions, data, media_of(folder, out))


def show(folder: Path, out: Path, flags: Sequence[str]) -> None:
    """Serve the page, or say how to."""
    offer(out, media_of(folder, out))
