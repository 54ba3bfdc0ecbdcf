"""A small world for the tests: random identifiers, captions made of words, and the task over them."""

import importlib
import json
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
from pathlib import Path
from types import ModuleType

import commands
import numpy as np
import pytest
import torch
import warm_python

import cart_fairseq.tasks.plugin  # noqa: F401, registers all tasks for fairseq's commands in this process
from cart_fairseq.base.libraries import hide_broken_torchaudio
from cart_fairseq.catalogue.identifiers import write_bundle
from cart_fairseq.catalogue.positions import Position, unique_positions, unique_tokens
from cart_fairseq.models.cart import CARTModel, cart_tiny_architecture
from cart_fairseq.tasks.cart_retrieval import CartRetrievalTask
from cart_fairseq.tasks.retrieval_options import CartRetrievalConfig
from preprocess.data_bin.build import binarize

torch.set_num_threads(1)
hide_broken_torchaudio()  # tests import transformers, too

WORDS = [
    "red",
    "green",
    "blue",
    "dog",
    "cat",
    "bird",
    "tree",
    "house",
    "runs",
    "sleeps",
    "jumps",
    "over",
    "under",
    "near",
    "old",
    "young",
]
ITEMS = 24


def load_example(folder: str, name: str) -> ModuleType:
    """A script of ``examples/FOLDER``, which is no package, as a module; it may import its neighbours and ``recipes``."""
    examples = Path(__file__).resolve().parents[1] / "examples"
    paths = [str(examples / folder), str(examples / "recipes")]
    sys.path[:0] = paths
    try:
        return importlib.import_module(name)
    finally:
        for path in paths:
            sys.path.remove(path)


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_bundle(directory: Path, items: int = ITEMS, seed: int = 0, splits: bool = True):
    """A bundle of random codes with some collisions; a third of the items is in each split."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, [3, 4, 4], size=(items, 3))
    unique = unique_tokens(codes, 8)
    positions = [Position("k", 3), Position("v1", 4), Position("v2", 4), *unique_positions(unique.shape[1], 8)]
    records = [{"item_id": f"item {i}", "media": f"{i}.png"} for i in range(items)]
    if splits:
        for i, record in enumerate(records):
            record["split"] = ("train", "valid", "test")[i % 3]
    return write_bundle(directory, np.concatenate([codes, unique], 1), positions, records, {}, {}, {})


def make_captions(path: Path, items: int = ITEMS, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(items):
        for number in range(4):
            text = " ".join(rng.choice(WORDS, size=rng.integers(3, 9)))
            role = "train" if i % 3 == 0 else ("index" if number == 0 else "query")
            rows.append({"item_id": f"item {i}", "text": text, "role": role, "caption_id": f"{i}#{number}"})
    return write_jsonl(path, rows)


@pytest.fixture(scope="session")
def data_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data-bin of 24 items with valid and test queries."""
    root = tmp_path_factory.mktemp("world")
    make_bundle(root / "identifiers")
    captions = make_captions(root / "captions.jsonl")
    binarize(root / "identifiers", captions, root / "data-bin")
    return root / "data-bin"


@pytest.fixture(scope="session")
def warm() -> warm_python.WarmPython:
    """A Python for scripts that call many short commands; see `warm_python`."""
    return commands.warm()


def setup_task(data: Path, **options) -> CartRetrievalTask:
    config = CartRetrievalConfig()
    config.data = str(data)
    for name, value in options.items():
        setattr(config, name, value)
    return CartRetrievalTask.setup_task(config)


@pytest.fixture
def task(data_bin: Path) -> CartRetrievalTask:
    """The retrieval task over the small world, with all subsets loaded."""
    task = setup_task(data_bin)
    for split in ("train", "valid", "test"):
        task.load_dataset(split)
    return task


def make_model(task: CartRetrievalTask, seed: int = 0, **options) -> CARTModel:
    """A tiny model with random weights, spread out so that its scores differ between items."""
    torch.manual_seed(seed)
    arguments = argparse.Namespace(encoder_embed_dim=16, encoder_ffn_embed_dim=32, **options)
    cart_tiny_architecture(arguments)
    model = CARTModel.build_model(arguments, task)
    with torch.no_grad():
        model.decoder.output_projection.weight.mul_(3)
    return model.eval()


def make_batch(task: CartRetrievalTask, split: str = "test", size: int | None = None) -> dict:
    dataset = task.datasets[split]
    return dataset.collater([dataset[i] for i in range(size or len(dataset))])
