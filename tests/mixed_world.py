"""Small catalogues with their data-bins, for the tests of queries that are not one text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from conftest import make_model, setup_task, write_jsonl
from join_samples import ITEMS, SMALL, World, split_of, write_world
from media_samples import describe, write_media

from cart_fairseq.catalogue.identifiers import write_bundle
from cart_fairseq.catalogue.positions import Position, unique_positions, unique_tokens
from cart_fairseq.retriever import CartRetriever
from preprocess.data_bin.build import binarize
from preprocess.encoders.extract import extract_embeddings
from preprocess.encoders.settings import EmbeddingSettings
from preprocess.join.build import join_captions
from preprocess.join.settings import JoinSettings

KINDS = {"png": "image", "jpg": "image", "wav": "audio", "mp4": "video"}
"""Modality of media, by the ending of their names."""


def write_data_bin(root: Path, joined: bool = True) -> World:
    """The files of the catalogue and, beside them, ``identifiers`` and ``data-bin``."""
    files = write_world(root)
    codes = np.random.default_rng(1).integers(0, [4, 4], size=(ITEMS, 2))
    unique = unique_tokens(codes, 16)
    positions = [Position("k", 4), Position("v1", 4), *unique_positions(unique.shape[1], 16)]
    records = [{"item_id": f"i{item}", "split": split_of(item)} for item in range(ITEMS)]
    write_bundle(root / "identifiers", np.concatenate([codes, unique], 1), positions, records, {}, {}, {})
    embeddings = files.embeddings
    if joined:
        join_captions(files.embeddings, files.items, files.captions, files.output, JoinSettings(**SMALL))
        embeddings = files.output
    binarize(root / "identifiers", files.captions, root / "data-bin", embeddings=embeddings)
    return files


def write_media_world(root: Path, names: Sequence[str], joined: bool = False, modality: str | None = None) -> None:
    """Media of these names, their embeddings by the encoder plain in ``extracted``, and a ``data-bin`` of them.

    Files that are there are kept. The kind of each is ``modality``, else what its name says.
    """
    for number, name in enumerate(names):
        if not (root / name).exists():
            write_media(root / name, number)
    kinds = {name: modality or KINDS[name[-3:]] for name in names}
    items = [{"item_id": name, "media": name, "modality": kinds[name], "split": "train"} for name in names]
    write_jsonl(root / "items.jsonl", items)
    lines = [{"item_id": name, "text": text} for number, name in enumerate(names) for text in describe(number)]
    write_jsonl(root / "captions.jsonl", lines)
    extract_embeddings(root / "items.jsonl", root / "extracted", EmbeddingSettings("plain", workers=0))
    unique = unique_tokens(np.zeros((len(names), 1), dtype=np.int64), 16)
    positions = [Position("k", 1), *unique_positions(unique.shape[1], 16)]
    values = np.concatenate([np.zeros((len(names), 1), dtype=np.int64), unique], 1)
    write_bundle(root / "identifiers", values, positions, items, {}, {}, {})
    embeddings = root / "extracted" / "embeddings.npy"
    if joined:
        settings = JoinSettings(text_dim=4, pca=3)
        join_captions(embeddings, root / "items.jsonl", root / "captions.jsonl", root / "joined", settings)
        embeddings = root / "joined"
    binarize(root / "identifiers", root / "captions.jsonl", root / "data-bin", embeddings=embeddings)


def retriever(data_bin: Path, seeds=(0,), dense_dim: int = 4, media_positions: int = 0, **options) -> CartRetriever:
    """A retriever with models of random weights."""
    task = setup_task(data_bin)
    flags = {"dense_dim": dense_dim, "media_positions": media_positions}
    models = [make_model(task, seed, **flags) for seed in seeds]
    return CartRetriever(models, task.data, **options)
