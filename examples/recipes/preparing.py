"""From raw media to a data set: annotations, embeddings, generated captions, and the folder that training reads."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calls import Call, check, fixed, make
from data_sets import DataSet
from fairseq_calls import check_folder
from folders import link
from settings import Settings

import preprocess.annotations.__main__ as annotations
from cart_fairseq.base.files import replacing, write_jsonl
from cart_fairseq.base.reading import read_jsonl
from preprocess import extract_embeddings, generate_captions
from preprocess.annotations.settings import AnnotationSettings
from preprocess.captioners.settings import CaptionSettings
from preprocess.encoders.settings import EmbeddingSettings


def prepare(data_set: DataSet, raw: Path, out: Path, settings: Settings) -> None:
    """Annotations, embeddings and generated captions of a data set: ``out/data``.

    Raises:
        ValueError: flags of a command are wrong, or its input is, or fairseq does not take the name of `out`.
    """
    check_folder(out)
    encoder, captioner = settings.encoder or "imagebind", settings.captioner or data_set.captioner
    described, embedded, data = out / "annotations", out / "embeddings", out / "data"
    lent = captioner.partition(":")[0] == "neighbours"
    more = [*(["--embeddings", embedded / "embeddings.npy"] if lent else []), *data_set.caption_flags(captioner)]
    calls = {
        "1. annotations": annotating(data_set.annotation_flags(raw), described, settings),
        f"2. embeddings: {encoder}": embedding(
            described / "items.jsonl", described / "captions.jsonl", encoder, embedded, settings
        ),
        f"3. generated captions: {captioner}": captioning(
            embedded, embedded / "captions.jsonl", captioner, data / "captions.jsonl", settings, more
        ),
    }
    check(calls)
    make(calls)
    for name in ("embeddings.npy", "extraction.json", "items.jsonl"):  # paths of media are as valid here
        link(Path("..") / "embeddings" / name, data / name)
    print(f"{data}: complete")


def annotating(reader: Sequence[object], output: Path, settings: Settings) -> Call:
    """The call that reads published annotations, with the reader and its flags."""
    own = [*reader, "--output", output]
    user = settings.annotation_flags
    return Call(annotations, AnnotationSettings, own, "ANNOTATION_FLAGS", user, fixed("reader", "output"))


def embedding(
    items: Path, captions: Path | None, encoder: str, output: Path, settings: Settings, on_error: str = "skip"
) -> Call:
    """The call that embeds media; items whose media cannot be read are left out, or end it."""
    own = ["--items", items, *(["--captions", captions] if captions else []), "--encoder", encoder, "--output", output]
    own += ["--on-error", on_error]
    set_here = fixed("items", "texts", "captions", "output", encoder="set ENCODER")
    return Call(extract_embeddings, EmbeddingSettings, own, "EMBEDDING_FLAGS", settings.embedding_flags, set_here)


def captioning(
    embedded: Path,
    captions: Path | None,
    captioner: str,
    output: Path,
    settings: Settings,
    more: Sequence[object] = (),
) -> Call:
    """The call that lets a captioner describe items that were embedded; None: they have no captions yet."""
    own: list[object] = ["--items", embedded / "items.jsonl", *(["--captions", captions] if captions else [])]
    own += ["--captioner", captioner, "--output", output, "--on-error", "skip", *more]
    set_here = fixed("items", "captions", "output", "embeddings", captioner="set CAPTIONER")
    return Call(generate_captions, CaptionSettings, own, "CAPTION_FLAGS", settings.caption_flags, set_here)


def write_data(embedded: Path, captions: Path | None, data: Path, root: Path) -> None:
    """Write what `steps.train` reads, for a service that finds media below a folder; ``captions.jsonl`` comes last.

    Args:
        embedded: what `extract_embeddings` wrote.
        captions: the captions of its items; None if there are none.
        data: the folder to write.
        root: the folder that the items' media become relative to.
    """
    data.mkdir(parents=True, exist_ok=True)
    for name in ("embeddings.npy", "extraction.json"):
        link(Path(os.path.relpath(embedded / name, data)), data / name)
    with replacing(data / "items.jsonl") as new:
        write_jsonl(new, served(embedded, root, captions))
    with replacing(data / "captions.jsonl") as new:
        if captions is None:
            new.touch()
        else:
            shutil.copyfile(captions, new)


def served(embedded: Path, root: Path, captions: Path | None) -> list[dict[str, Any]]:
    """The items that `extract_embeddings` wrote, with media relative to a folder, and the first of their captions."""
    begin, end = embedded.resolve(), root.resolve()
    texts: dict[str, str] = {}
    for caption in read_jsonl(captions) if captions else []:
        texts.setdefault(caption["item_id"], caption["text"])
    rows = []
    for row in read_jsonl(embedded / "items.jsonl"):
        said = {"caption": texts[row["item_id"]]} if row["item_id"] in texts else {}
        rows.append({**said, **row, "media": os.path.relpath(begin / row["media"], end)})
    return rows
