"""A small joined catalogue with its data-bin, for the tests of queries that are not one text."""

from pathlib import Path

import numpy as np
from conftest import make_model, setup_task
from join_samples import ITEMS, SMALL, World, split_of, write_world

from cart_fairseq.catalogue.identifiers import write_bundle
from cart_fairseq.catalogue.positions import Position
from cart_fairseq.catalogue.unique_token import unique_positions, unique_tokens
from cart_fairseq.retriever import CartRetriever
from preprocess.data_bin.build import binarize
from preprocess.join.build import join_captions
from preprocess.join.settings import JoinSettings


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


def retriever(data_bin: Path, seeds=(0,), dense_dim: int = 4, media_positions: int = 0, **options) -> CartRetriever:
    """A retriever with models of random weights."""
    task = setup_task(data_bin)
    flags = {"dense_dim": dense_dim, "media_positions": media_positions}
    models = [make_model(task, seed, **flags) for seed in seeds]
    return CartRetriever(models, task.data, **options)
