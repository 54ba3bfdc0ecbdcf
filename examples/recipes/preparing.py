"""From raw media to a data set: annotations, embeddings and generated captions."""

from collections.abc import Sequence
from pathlib import Path

from calls import Call, check, fixed, make
from data_sets import DataSet
from fairseq_calls import check_folder
from folders import link
from settings import Settings

import preprocess.annotations.__main__ as annotations
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
    flags = ["--items", embedded / "items.jsonl", "--captions", embedded / "captions.jsonl", "--captioner", captioner]
    flags += ["--output", data / "captions.jsonl", "--on-error", "skip"]
    if captioner.partition(":")[0] == "neighbours":
        flags += ["--embeddings", embedded / "embeddings.npy"]
    flags += data_set.caption_flags(captioner)
    set_here = fixed("items", "captions", "output", "embeddings", captioner="set CAPTIONER")
    calls = {
        "1. annotations": annotating(data_set.annotation_flags(raw), described, settings),
        f"2. embeddings: {encoder}": embedding(
            described / "items.jsonl", described / "captions.jsonl", encoder, embedded, settings
        ),
        f"3. generated captions: {captioner}": Call(
            generate_captions, CaptionSettings, flags, "CAPTION_FLAGS", settings.caption_flags, set_here
        ),
    }
    check(calls)
    make(calls)
    for name in (
        "embeddings.npy",
        "extraction.json",
        "items.jsonl",
    ):  # its media paths are as valid here, one folder beside
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
