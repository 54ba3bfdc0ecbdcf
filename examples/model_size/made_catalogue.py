"""Makes a catalogue of synthetic items and MODEL folders of it, by the project's own commands."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fairseq_calls
import numpy as np
import torch

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.files import replacing, write_jsonl
from cart_fairseq.base.progress import track
from cart_fairseq.base.settings import ExportSettings
from cart_fairseq.publishing.exporting import ROUNDED, export
from cart_fairseq.publishing.renewing import write_search_files
from cart_fairseq.tasks.opening import open_models
from preprocess.api import DataBinSettings, IdentifierSettings, binarize, build_identifiers

WIDTH = 512
"""Of the vectors of CLIP ViT-B/32."""
CENTRES, INTRINSIC, SPREAD = 2000, 64, 0.5
"""The vectors lie around so many centres and differ in so many directions, with this deviation."""
BLOCK = 8192
PRECISIONS = ("float32", "bf16")


class Sizes(NamedTuple):
    """What the sizes of a MODEL folder depend on, beside the number of items.

    Attributes:
        arch: name of the architecture.
        codebook: size of each level of an identifier.
        vocabulary: largest number of pieces of the query vocabulary.
        dense_dim: width of the dense head.
        captioned: items with a caption. Their number decides whether the vocabulary is full, and how many queries are
            stored for priors (at most 4,096).
    """

    arch: str
    codebook: int
    vocabulary: int
    dense_dim: int
    captioned: int


def write_vectors(path: Path, items: int, seed: int) -> None:
    """Write (N, 512) float16 clustered vectors of length 1, unless the file is there."""
    if path.is_file():
        return
    draw = np.random.default_rng((seed, items))
    centres = draw.standard_normal((CENTRES, INTRINSIC), dtype=np.float32)
    embed = draw.standard_normal((INTRINSIC, WIDTH), dtype=np.float32)
    with replacing(path) as new:
        out = new_array(new, np.float16, (items, WIDTH))
        for first in track(range(0, items, BLOCK), "vectors", "blocks"):
            size = min(BLOCK, items - first)
            around = draw.standard_normal((size, INTRINSIC), dtype=np.float32)
            rows = (centres[draw.integers(CENTRES, size=size)] + SPREAD * around) @ embed
            out[first : first + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        out.flush()


def item_records(items: int, seed: int) -> Iterator[dict[str, Any]]:
    """Records as ``read_folder`` writes at least: an id like those of Flickr8k, medium and modality; no split."""
    draw = np.random.default_rng((seed, items, 1))
    for number, mark in enumerate(draw.integers(1 << 40, size=items).tolist()):
        name = f"{2_000_000_000 + number}_{mark:010x}.jpg"
        yield {"item_id": name, "media": f"images/{name}", "modality": "image"}


def captions(items: list[str], words: int, seed: int) -> Iterator[dict[str, str]]:
    """One caption an item: 10 of so many words of random letters."""
    draw = np.random.default_rng((seed, 2))
    lexicon = ["".join(map(chr, 97 + draw.integers(26, size=size))) for size in draw.integers(3, 10, size=words)]
    for item in items:
        chosen = draw.integers(words, size=10)
        yield {"item_id": item, "text": " ".join(lexicon[place] for place in chosen), "role": "train"}


def make_identifiers(folder: Path, items: int, sizes: Sizes, seed: int) -> None:
    """Write ``items.jsonl``, ``captions.jsonl`` and ``identifiers/`` beside the ``embeddings.npy`` of a folder.

    The identifiers are residual k-means codes of full size. The codec is fitted on few rows, because its quality does
    not change a size.
    """
    if not (folder / "items.jsonl").is_file():
        write_jsonl(folder / "items.jsonl", item_records(items, seed))
    names = [record["item_id"] for record, _ in zip(item_records(items, seed), range(sizes.captioned))]
    write_jsonl(folder / "captions.jsonl", captions(names, 2 * sizes.vocabulary, seed))
    settings = IdentifierSettings(
        scheme="residual-kmeans",
        kmeans_clusters=sizes.codebook,
        codebook_size=sizes.codebook,
        train_sample=100 * sizes.codebook,
        allow_collapse=True,
        seed=seed,
    )
    build_identifiers(folder / "embeddings.npy", folder / "items.jsonl", folder / "identifiers", settings)


def model_folders(folder: Path, dense: bool) -> dict[str, Path]:
    """Precision -> where the MODEL folder lies."""
    return {precision: folder / f"MODEL.{'dense' if dense else 'plain'}.{precision}" for precision in PRECISIONS}


def make_models(folder: Path, dense: bool, sizes: Sizes, seed: int) -> None:
    """Write a data-bin, train one update, and export in each precision.

    Args:
        folder: of `make_identifiers`. The data-bin is removed in the end.
        dense: with the items' embeddings and a dense head; else the paper's model.
    """
    name = "dense" if dense else "plain"
    data, save = folder / f"data-bin.{name}", folder / f"checkpoints.{name}"
    checkpoint = save / "checkpoint_last.pt"
    rows = folder / "embeddings.npy" if dense else None
    settings = DataBinSettings(vocab_size=sizes.vocabulary, seed=seed)
    binarize(folder / "identifiers", folder / "captions.jsonl", data, settings, embeddings=rows)
    if not checkpoint.is_file():
        train(data, save, sizes, seed, ["--dense-dim", str(sizes.dense_dim)] if dense else [])
    round_weights(checkpoint)
    if dense:
        models, opened = open_models(checkpoint, data)
        write_search_files(models, opened, priors=True)  # computed once; both exports copy it
    for precision, model in model_folders(folder, dense).items():
        export(checkpoint, data, model, ExportSettings(precision))
    shutil.rmtree(data)
    shutil.rmtree(save)


def train(data: Path, save: Path, sizes: Sizes, seed: int, flags: list[str]) -> None:
    """Run ``fairseq-train`` for one update: the weights stay almost random.

    Raises:
        FairseqFailed: it failed, as was shown.
    """
    command = ["--task", "cart_retrieval", "--arch", sizes.arch, "--criterion", "cart_rdrop", "--optimizer", "adam"]
    command += ["--lr", "1e-4", "--batch-size", "8", "--max-update", "1", "--disable-validation", "--cpu"]
    command += ["--num-workers", "0", "--no-epoch-checkpoints", "--seed", str(seed)]
    save.mkdir(exist_ok=True)
    fairseq_calls.train(data, save, [*command, *flags])


def round_weights(checkpoint: Path) -> None:
    """Round a checkpoint's weights to bf16, so that all its exports have the same values and copy the same search files."""
    content = torch.load(checkpoint, weights_only=False)  # a file of ours, which has fairseq's settings
    for name, value in content["model"].items():
        if name.startswith(ROUNDED) and value.is_floating_point():
            content["model"][name] = value.bfloat16().to(value.dtype)
    torch.save(content, checkpoint)


PARTS = (
    ("weights", r"model.*\.safetensors"),
    ("tokeniser and dictionaries", r"dict\..*|sentencepiece\..*|text-encoder/.*|identifiers/dict\.id\.txt"),
    ("prefix tree", r"trie\.safetensors"),
    ("identifiers", r"identifiers/identifiers\.npy"),
    ("ids and records", r"identifiers/item_ids\.parquet"),
    ("candidate sets", r"candidates\..*\.npy"),
    ("codec and join", r"identifiers/codec\..*|join\..*|vocabulary\.json"),
    ("embeddings", r"dense\..*\.npy"),
    ("vectors of the dense head", r"search/vectors\..*"),
    ("stored queries and priors", r"search/(queries|priors)\..*"),
    ("prefix statistics", r"search/.*/.*"),
    ("descriptions", r".*\.(json|md)"),
)
"""Part of a MODEL folder -> pattern of its files; the first that fits counts."""


def bytes_by_part(model: Path) -> dict[str, int]:
    """The bytes of a MODEL folder by part.

    Raises:
        ValueError: a file belongs to no part.
    """
    found = dict.fromkeys((part for part, _ in PARTS), 0)
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        name = path.relative_to(model).as_posix()
        part = next((part for part, pattern in PARTS if re.fullmatch(pattern, name)), None)
        if part is None:
            raise ValueError(f"{path}: is of no part of a MODEL folder that is known here; name one in PARTS")
        found[part] += path.stat().st_size
    return found
