"""A small catalogue with a codec, for the tests of updates."""

from pathlib import Path

import numpy as np
import torch
from commands import run, train_flags
from conftest import ITEMS, make_captions, write_jsonl

from cart_fairseq.catalogue.identifiers import IdentifierBundle, write_bundle
from cart_fairseq.catalogue.positions import unique_positions, unique_tokens
from cart_fairseq.rqvae.network import RQVAE
from preprocess.data_bin.build import binarize
from preprocess.identifiers.report import measure
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec
from preprocess.identifiers.schemes.scheme import Codec
from preprocess.identifiers.settings import IdentifierSettings

WIDTH = 6
QUICK = IdentifierSettings(
    scheme="residual-kmeans",
    kmeans_clusters=3,
    codebook_size=3,
    allow_collapse=True,
    block_rows=8,
    normalize=True,
    pca=4,
)
"""A build that takes no time."""


def make_codec(size: int = 4) -> ResidualCodec:
    """Random, with 3 centres and two codebooks."""
    torch.manual_seed(1)
    rqvae = RQVAE(WIDTH, 4, 2, size).requires_grad_(False).eval()
    centres = np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)
    return ResidualCodec(centres, 3, rqvae, 0.7)


def embed(items: int, seed: int) -> np.ndarray:
    """(items, WIDTH) float32, every third one a copy, so that codes are shared."""
    rows = np.random.default_rng(seed).standard_normal((items, WIDTH)).astype(np.float32)
    rows[2::3] = rows[0]
    return rows


def build(directory: Path, codec: Codec, unique_size: int = 8, items: int = ITEMS) -> IdentifierBundle:
    """A bundle of items of all splits."""
    codes = codec.encode(embed(items, 0))
    unique = unique_tokens(codes, unique_size)
    records = [{"item_id": f"item {i}", "split": ("train", "valid", "test")[i % 3]} for i in range(items)]
    positions = [*codec.positions, *unique_positions(unique.shape[1], unique_size)]
    values, report = np.column_stack([codes, unique]), measure(codes, codec.positions)
    return write_bundle(
        directory, values, positions, records, report, codec.tensors(), {"scheme": "coarse-fine", "dimension": WIDTH}
    )


def make_data_bin(folder: Path) -> Path:
    """A data-bin over `build`'s items, with a candidate set of the user's own."""
    build(folder / "identifiers", make_codec(), unique_size=32)
    captions = make_captions(folder / "captions.jsonl")
    binarize(folder / "identifiers", captions, folder / "data-bin")
    np.save(folder / "data-bin" / "candidates.mine.npy", np.array([1, 5, 9]))
    return folder / "data-bin"


def new_items(folder: Path, count: int = 7, seed: int = 5, first: int = 0) -> tuple[Path, Path]:
    """Write embeddings and `items.jsonl` of items that are not in the catalogue; return their paths."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "embeddings.npy", embed(count, seed))
    splits = ["test", "valid", None, "train"]
    rows = [{"item_id": f"new {first + i}", "n": i, "split": splits[i % 4]} for i in range(count)]
    write_jsonl(folder / "items.jsonl", [{k: v for k, v in row.items() if v is not None} for row in rows])
    return folder / "embeddings.npy", folder / "items.jsonl"


def dense_world(root: Path) -> Path:
    """Make a data-bin with embeddings in a folder, and the checkpoint of a model with a dense head."""
    build(root / "identifiers", make_codec(), unique_size=32)
    np.save(root / "embeddings.npy", embed(ITEMS, 0))
    captions = make_captions(root / "captions.jsonl")
    binarize(root / "identifiers", captions, root / "data-bin", embeddings=root / "embeddings.npy")
    run(*train_flags(root / "data-bin", root / "save", "--max-epoch", 3, "--dense-dim", 8, "--dense-weight", 0.5))
    return root


def one_epoch(folder: Path) -> tuple[Path, Path]:
    """A data-bin, and a checkpoint of one epoch of training on it."""
    data = make_data_bin(folder)
    run(*train_flags(data, folder / "save", "--max-epoch", 1))
    return data, folder / "save" / "checkpoint_last.pt"
