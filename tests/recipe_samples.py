"""What the tests of recipes start from: manifests, and small data."""

from pathlib import Path

import numpy as np
from conftest import write_jsonl
from media_samples import describe


def manifest(
    train: int, valid: int | None = 1000, test: int | None = None, candidates: int = 100, symbols: int = 8
) -> dict:
    """What a recipe reads in the manifest of a data-bin."""
    counts = {"train": train, "valid": valid, "test": test}
    return {
        "counts": {s: {"queries": n, "candidates": candidates} for s, n in counts.items() if n},
        "files": {"train.query-id.query.bin": {"bytes": 4 * train * symbols}},
        "index_captions": "include",
    }


def write_data(folder: Path, items: int = 20) -> Path:
    """Items with four captions each to train on, and one to ask for it."""
    folder.mkdir(parents=True)
    np.save(folder / "embeddings.npy", np.random.default_rng(0).normal(size=(items, 8)).astype(np.float32))
    write_jsonl(folder / "items.jsonl", [{"item_id": f"i{number}"} for number in range(items)])
    roles = ["query", "train", "train", "train", "train"]
    captions = [
        {"item_id": f"i{number}", "text": text, "role": role}
        for number in range(items)
        for text, role in zip(describe(number), roles, strict=True)
    ]
    write_jsonl(folder / "captions.jsonl", captions)
    return folder
