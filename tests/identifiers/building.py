"""A small catalogue, and identifiers built from it, for the tests of this folder."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fairseq_cli.train import cli_main

from cart_fairseq.rqvae.network import RQVAE
from cart_fairseq.tasks import plugin  # noqa: F401, registers the task that trains an RQ-VAE
from preprocess.identifiers import rqvae_runner
from preprocess.identifiers.build import BuiltIdentifiers, build_identifiers
from preprocess.identifiers.schemes import coarse_fine
from preprocess.identifiers.settings import IdentifierSettings, RQVAESettings

ITEMS, WIDTH = 120, 6
SMALL = IdentifierSettings(kmeans_clusters=8, codebook_size=8, latent_dim=4, epochs=6, unique_size=32)
FLAGS = ["--kmeans-clusters", "8", "--codebook-size", "8", "--latent-dim", "4", "--epochs", "6", "--unique-size", "32"]
"""`SMALL` as flags."""
CODES = ["identifiers.npy", "codec.safetensors", "item_ids.parquet", "dict.id.txt", "codec.json"]
"""The files of a bundle that the inputs and settings determine to the bit."""


def points(count: int = ITEMS) -> np.ndarray:
    """Six blobs, the second item a copy of the first."""
    draw = np.random.default_rng(3)
    blobs = 10 * draw.standard_normal((6, WIDTH))[np.arange(count) % 6] + draw.standard_normal((count, WIDTH))
    blobs[1 : min(2, count)] = blobs[0]
    return blobs.astype(np.float32)


def write_catalogue(folder: Path, embeddings: np.ndarray) -> Path:
    """Write `embeddings.npy` and `items.jsonl`."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "embeddings.npy", embeddings)
    rows = [json.dumps({"item_id": f"item {i}", "split": "train", "n": i}) for i in range(len(embeddings))]
    (folder / "items.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def write_captions(folder: Path, texts: Sequence[str], **fields: Any) -> Path:
    """Write `captions.jsonl`: caption i for item i, each with these fields."""
    rows = [json.dumps({"item_id": f"item {i}", "text": text, **fields}) for i, text in enumerate(texts)]
    path = folder / "captions.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def build(
    folder: Path, output: str = "identifiers", embeddings: str = "embeddings.npy", **changes: Any
) -> BuiltIdentifiers:
    """Build `folder/output` from a catalogue of `write_catalogue`, with settings that differ from `SMALL` in `changes`.

    The scheme semantic takes the captions of `write_captions`.
    """
    settings = dataclasses.replace(SMALL, **changes)
    captions = folder / "captions.jsonl" if settings.scheme == "semantic" else None
    return build_identifiers(folder / embeddings, folder / "items.jsonl", folder / output, settings, captions)


def command_line(folder: Path, *flags: str) -> list[str]:
    """The command that does what `build` does."""
    paths = {"--embeddings": "embeddings.npy", "--items": "items.jsonl", "--output": "identifiers"}
    return [*(part for flag, name in paths.items() for part in (flag, str(folder / name))), *FLAGS, *flags]


@pytest.fixture
def training_here(monkeypatch):
    """fairseq-train in this process, which spares its start-up; the kill test runs the real thing."""

    def train(residuals: Path, work: Path, settings: RQVAESettings, processes: int) -> RQVAE:
        rows, dimension = np.load(residuals, mmap_mode="r").shape
        arguments = rqvae_runner.fairseq_arguments(residuals, work / "checkpoints", rows, settings)
        monkeypatch.setattr(sys, "argv", ["fairseq-train", *arguments, "--cpu"])
        cli_main()
        return rqvae_runner.load_rqvae(work / "checkpoints" / "checkpoint_last.pt", dimension, settings)

    monkeypatch.setattr(coarse_fine, "train_rqvae", train)
