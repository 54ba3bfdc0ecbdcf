"""A miniature for the baselines: pictures of a colour and an animal, embedded by both; captions embedded by their words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from conftest import write_jsonl

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.evaluate import main as evaluate
from cart_fairseq.measuring.results import subset_queries
from preprocess.build_identifiers import main as build_identifiers
from preprocess.data_bin.build import binarize
from preprocess.data_bin.settings import DataBinSettings

COLOURS, ANIMALS = ("red", "green", "blue", "grey"), ("cat", "dog", "hen", "fox")
THINGS = [f"{colour} {animal}" for colour in COLOURS for animal in ANIMALS]
SPLITS = ("train", "train", "train", "valid", "test")
ITEM_WIDTH, TEXT_WIDTH = 24, 16


def write_data(folder: Path, held_out: tuple[str, ...] = ("valid", "test")) -> Path:
    """Every thing thrice for training, once each to measure: embeddings.npy, items.jsonl, captions.jsonl, texts.npy.

    `same-space.npy` holds captions in the space of the items. Splits outside `held_out` have no queries.
    """
    generator = np.random.default_rng(0)
    seen = {word: generator.normal(size=ITEM_WIDTH) for word in (*COLOURS, *ANIMALS)}
    read = {word: generator.normal(size=TEXT_WIDTH) for word in (*COLOURS, *ANIMALS)}
    items: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    rows: dict[str, list[np.ndarray]] = {"embeddings": [], "texts": [], "same-space": []}

    def placed(directions: dict[str, np.ndarray], thing: str) -> np.ndarray:
        noise = generator.normal(size=len(directions["red"]))
        return sum(directions[word] for word in thing.split()) + 0.05 * noise

    for copy, split in enumerate(SPLITS):
        for thing in THINGS:
            name = f"{thing} {copy}"
            items.append({"item_id": name, "split": split, "modality": "image", "media": f"media/{name}.png"})
            rows["embeddings"].append(placed(seen, thing))
            texts = [(f"a {thing}", "train"), (f"this {thing} here", "train")]
            if split != "train":
                texts = [(f"one {thing}", "index"), (f"look , {thing}", "query")]
            for number, (text, role) in enumerate(texts):
                if role != "query" or split in held_out:
                    captions.append({"item_id": name, "text": text, "role": role, "caption_id": f"{name}#{number}"})
                    rows["texts"].append(placed(read, thing))
                    rows["same-space"].append(placed(seen, thing))
    folder.mkdir(parents=True)
    for name, values in rows.items():
        np.save(folder / f"{name}.npy", np.array(values, dtype=np.float32))
    write_jsonl(folder / "items.jsonl", items)
    write_jsonl(folder / "captions.jsonl", captions)
    return folder


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_data_bin(folder: Path, data: Path, scheme: str = "atomic", index_captions: str = "include") -> Path:
    """FOLDER/identifiers and FOLDER/data-bin of what `write_data` wrote."""
    flags = [
        "--embeddings",
        data / "embeddings.npy",
        "--items",
        data / "items.jsonl",
        "--output",
        folder / "identifiers",
    ]
    sizes = ["--scheme", scheme, "--kmeans-clusters", 4, "--codebook-size", 4, "--epochs", 3, "--allow-collapse"]
    build_identifiers([str(flag) for flag in [*flags, *sizes]])
    settings = DataBinSettings(index_captions=index_captions, vocab_size=60)
    binarize(folder / "identifiers", data / "captions.jsonl", folder / "data-bin", settings)
    return folder / "data-bin"


def write_run(folder: Path, data: Path, scheme: str, right: int) -> Path:
    """What examples/own_data/run.sh leaves, with an empty checkpoint: of every 4 queries, `right` find their item first."""
    data_bin = DataBin(write_data_bin(folder, data, scheme))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "checkpoint_last.pt").touch()
    for subset in ("valid", "test"):
        queries = subset_queries(data_bin, subset)
        for competing in ("split", "all"):
            results = folder / "results" / competing
            results.mkdir(parents=True, exist_ok=True)
            with open(results / f"generate-{subset}.txt", "w", encoding="utf-8") as file:
                for number, query in enumerate(queries):
                    others = [other.item_row for other in queries if other.item_row != query.item_row][:10]
                    rows = [query.item_row, *others] if number % 4 < right else others
                    for place, row in enumerate(rows):
                        file.write(f"D-{number}\t{-1 - place}\t{data_bin.bundle.item_ids[row]}\n")
            flags = [results / f"generate-{subset}.txt", "--data", folder / "data-bin", "--candidates", competing]
            evaluate([str(flag) for flag in [*flags, "--json", results / f"metrics.{subset}.json"]])
    return folder
