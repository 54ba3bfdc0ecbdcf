"""A catalogue with synthetic distractors: neighbours of real items, added to a trained run's data-bin."""

import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from joined_towers import JoinedTowers
from numpy.typing import NDArray

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.files import digest, replacing, sha256, write_json, write_jsonl
from cart_fairseq.base.progress import track
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.publishing.renewing import renewal
from preprocess.data import joined_folder
from preprocess.updating.steps import add

NOISE = 0.7
"""Length of the noise that is added to each part of a real row, which has length 1."""
BLOCK = 8192
MADE_FROM = "made-from.json"


def neighbours(rows: NDArray[np.floating[Any]], widths: list[int], draw: np.random.Generator) -> NDArray[np.float32]:
    """Move each part of joined rows (n, W) by noise of length `NOISE` in a random direction, and scale it back."""
    parts, at = [], 0
    for width in widths:
        part = rows[:, at : at + width].astype(np.float32)
        noise = draw.standard_normal(part.shape, dtype=np.float32)
        noise *= NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
        length = np.linalg.norm(part, axis=1, keepdims=True)
        moved = part + length * noise
        parts.append(moved * (length / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-6)))
        at += width
    return np.concatenate(parts, axis=1)


def write_join(folder: Path, joined: JoinedTowers, count: int, seed: int) -> None:
    """Write a join of `count` synthetic items, each a neighbour of a random real one.

    Args:
        folder: receives joined rows, aligned rows, those of before the join (the real items'), items.jsonl and the record.
        joined: the join of the real items.
        count: of items.
        seed: of all draws.
    """
    draw = np.random.default_rng(seed)
    real = np.load(joined.folder / joined_folder.ITEMS, mmap_mode="r")
    originals = np.load(joined.folder / joined_folder.ORIGINALS, mmap_mode="r")
    widths = {joined_folder.ITEMS: real.shape[1], joined_folder.ALIGNED: joined.towers.width}
    widths[joined_folder.ORIGINALS] = originals.shape[1]
    with replacing(folder, directory=True) as new:
        rows, aligned, before = (new_array(new / name, np.float16, (count, width)) for name, width in widths.items())
        blocks = [slice(at, min(at + BLOCK, count)) for at in range(0, count, BLOCK)]
        for block in track(blocks, "synthetic items", "blocks"):
            source = np.sort(draw.integers(len(real), size=block.stop - block.start))
            made = neighbours(real[source], joined.record["parts"], draw)
            rows[block], aligned[block], before[block] = made, joined.towers(made), originals[source]
        for array in (rows, aligned, before):
            array.flush()
        item_ids = [f"synthetic {number}" for number in range(count)]
        write_jsonl(new / "items.jsonl", ({"item_id": item_id, "split": "train"} for item_id in item_ids))
        files = {name: sha256(new / name) for name in widths}
        own = {"items": count, "item_ids": joined_folder.items_digest(item_ids), "files": files}
        write_json(new / joined_folder.RECORD, joined.record | own)


def claim(work: Path, base: Path, joined: JoinedTowers, seed: int) -> None:
    """Note in ``work`` what catalogues and indexes there are made from.

    Raises:
        ValueError: those that are there were made from something else.
    """
    work.mkdir(parents=True, exist_ok=True)
    made_from = {"catalogue": DataBin(base).bundle.state, "join": digest(joined.record), "seed": seed}
    if (work / MADE_FROM).is_file() and read_json(work / MADE_FROM) != made_from:
        raise ValueError(f"{work}: was made from another catalogue, join or seed; choose another --work")
    write_json(work / MADE_FROM, made_from)


def valid_queries(data: DataBin, count: int) -> tuple[list[str], torch.Tensor]:
    """The first of a fixed random order of the valid queries: their texts, and the rows (n,) int64 of their items."""
    asked = data.queries("valid", ("text", "item_row"))
    order = np.random.default_rng(0).permutation(len(asked))[:count]
    return [asked["text"][int(i)].as_py() for i in order], torch.from_numpy(asked["item_row"].to_numpy()[order])


def enlarged(base: Path, joined: JoinedTowers, checkpoint: Path, size: int, work: Path, seed: int) -> tuple[Path, Path]:
    """Make a data-bin of `size` items: those of another one, and synthetic ones.

    Args:
        base: the data-bin of the real items.
        joined: their join.
        checkpoint: the model, whose priors, statistics and vectors are written too.
        size: the number of items.
        work: the folder of what is made; a call that was stopped goes on.
        seed: of all draws.

    Returns:
        The data-bin and the join of the synthetic items.
    """
    data, new = work / f"data-bin.{size}", work / f"synthetic.{size}"
    count = size - len(DataBin(base).trie)
    if not new.is_dir():
        write_join(new, joined, count, seed)
    if not data.is_dir():
        with replacing(data, directory=True) as copy:
            shutil.copytree(base, copy, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns("search"))
            add(copy, new, new / "items.jsonl")
    renewal(checkpoint, data)()
    return data, new
