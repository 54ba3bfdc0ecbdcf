"""Vectors for the rivals' services: those of captions, and synthetic neighbours of these, in an index of faiss.

    python examples/serving/rivals/vectors.py --captions captions.jsonl --encoder MODEL --items 1000000 --output FOLDER

Each item has the vector of its first caption. Beyond these, each item is a neighbour of a random one, as in
`examples/scale`. With `--txtai` the index is written for it, too.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "scale"))

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from distractors import BLOCK, neighbours
from numpy.typing import NDArray
from searcher import INDEX, ITEMS, PROBES, TXTAI, Searcher

from cart_fairseq.base.files import replacing, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.base.reading import read_jsonl

BATCH, PER_CELL, ASKED = 64, 50, 200


def first_captions(captions: Path) -> dict[str, str]:
    """The first caption of each item."""
    found: dict[str, str] = {}
    for row in read_jsonl(captions):
        found.setdefault(row["item_id"], row["text"])
    return found


def enlarged(real: NDArray[np.float32], size: int, seed: int = 1) -> NDArray[np.float32]:
    """Vectors (n, D) and neighbours of them: (size, D)."""
    draw = np.random.default_rng(seed)
    found = np.empty((size, real.shape[1]), dtype=np.float32)
    found[: len(real)] = real[:size]
    for at in track(range(len(real), size, BLOCK), "synthetic items", "blocks"):
        rows = real[draw.integers(len(real), size=min(BLOCK, size - at))]
        found[at : at + BLOCK] = neighbours(rows, [rows.shape[1]], draw)
    return found


def cells_of(items: int) -> int:
    """The number of cells: the square root of the number of items, with at least 39 items each."""
    return max(1, min(round(items**0.5), items // 39))


def built(vectors: NDArray[np.float32], seed: int = 1) -> Any:
    """An index with cells over vectors, fitted on a sample of them."""
    cells = cells_of(len(vectors))
    index = faiss.index_factory(vectors.shape[1], f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(seed).permutation(len(vectors))[: PER_CELL * cells]
    index.train(vectors[np.sort(sample)])
    for at in track(range(0, len(vectors), BLOCK), "index", "blocks"):
        index.add(vectors[at : at + BLOCK])
    return index


def recall(index: Any, vectors: NDArray[np.float32], asked: NDArray[np.float32]) -> float:
    """Share of the ten nearest items that the index finds."""
    faiss.extract_index_ivf(index).nprobe = min(PROBES, index.nlist)
    _, found = index.search(asked, 10)
    exact = np.argpartition(-(asked @ vectors.T), 10, axis=1)[:, :10]
    return float(
        np.mean([len({*one} & {*other}) / 10 for one, other in zip(found.tolist(), exact.tolist(), strict=True)])
    )


def write_txtai(folder: Path, index: Any, encoder: Path) -> None:
    """Write an index as txtai opens it, with the configuration of its service beside it."""
    from txtai import Embeddings

    made = Embeddings(method="external", backend="faiss", format="json")
    made.index((number, np.zeros(index.d, dtype=np.float32), None) for number in range(2))
    made.save(str(folder))
    made.ann.backend, made.ids.ids = index, [*range(index.ntotal)]
    made.config.update(offset=index.ntotal, dimensions=index.d, method="transformers", path=str(encoder))
    made.config.update(faiss={"nprobe": PROBES}, vectors={"dtype": "bfloat16"}, gpu=False)
    made.save(str(folder))
    (folder / "service.yml").write_text(f"path: {folder.absolute()}\nwritable: false\nembeddings:\n", encoding="utf-8")


def batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Texts in batches."""
    for at in track(range(0, len(texts), BATCH), "captions", "batches"):
        yield texts[at : at + BATCH]


def write_all(args: argparse.Namespace) -> dict[str, Any]:
    """Write indexes and items; return what they are."""
    captions = first_captions(args.captions)
    encoder = Searcher(args.output, args.encoder)
    real = np.concatenate([encoder.vectors(texts) for texts in batches([*captions.values()])])
    vectors = enlarged(real, args.items)
    index = built(vectors)
    asked = encoder.vectors([row["text"] for row in read_jsonl(args.captions)[-ASKED:]])
    found = {
        "items": index.ntotal,
        "width": index.d,
        "cells": index.nlist,
        "recall_at_10": recall(index, vectors, asked),
    }
    with replacing(args.output, directory=True) as new:
        faiss.write_index(index, str(new / INDEX))
        items = [{"item_id": item_id, "caption": text} for item_id, text in captions.items()]
        (new / ITEMS).write_text(json.dumps(items), encoding="utf-8")
        (new / "metadata").mkdir()  # for clip-retrieval
        repeated = [items[row % len(items)] for row in range(index.ntotal)]
        pa.parquet.write_table(pa.Table.from_pylist(repeated), new / "metadata" / "0.parquet")
        (new / "image.index").symlink_to(INDEX)
        write_json(new / "vectors.json", found)
    if args.txtai:
        write_txtai(args.output / TXTAI, index, args.encoder)
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="Vectors for the rivals' services.")
    made.add_argument("--captions", type=Path, required=True, metavar="FILE", help="captions.jsonl of the catalogue")
    made.add_argument("--encoder", type=Path, required=True, metavar="DIR", help="a text encoder of transformers")
    made.add_argument("--items", type=int, required=True, metavar="N", help="number of vectors")
    made.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder of what is written")
    made.add_argument("--txtai", action="store_true", help="also write txtai's index; txtai must be installed")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Write them; see the module's docstring."""
    print(json.dumps(write_all(parser().parse_args(argv))))


if __name__ == "__main__":
    run_script(main)
