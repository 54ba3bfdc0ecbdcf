"""The small catalogue whose data-bins, bundles and checkpoints lie here: 48 coloured things, the same on every machine.

`python old_catalogue.py FOLDER` writes the inputs of README.md's commands: `embeddings.npy`, `items.jsonl`, `captions.jsonl`.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLOURS = ["red", "green", "blue", "yellow", "black", "white"]
THINGS = ["dog", "cat", "bird", "tree", "house", "boat", "horse", "car"]
PLACES = ["on the beach", "in the snow", "near a river", "under a bridge"]
ITEMS, WIDTH = len(COLOURS) * len(THINGS), 12
QUERIES = [
    "a red dog on the beach",
    "the GREEN tree",
    "blue boat near a river",
    "yellow car",
    "a white horse in the snow",
    "black bird under a bridge",
    "house",
    "something blue on the beach",
    "a cat and a dog",
    "zebra 😀 ümlaut",
]
NEW = [{"item_id": f"new {i}", "split": "test"} for i in range(3)]
"""Items that are added to the old catalogue."""


def words_of(item: int) -> tuple[str, str, str]:
    """Colour, thing and place of an item."""
    return COLOURS[item % 6], THINGS[item // 6], PLACES[item % 4]


def split_of(item: int) -> str:
    """Eight items each in valid and test, others in train."""
    return {3: "valid", 5: "test"}.get(item * 7 % 6 if item // 6 % 2 else item % 6, "train")


def embeddings(seed: int = 0, items: int = ITEMS) -> NDArray[np.float32]:
    """(items, WIDTH): a vector of the colour, one of the thing, and noise, which alone follows the seed."""
    draw = np.random.default_rng(7)
    colours, things = draw.standard_normal((6, WIDTH)), draw.standard_normal((8, WIDTH))
    rows = np.arange(items)
    noise = np.random.default_rng(seed).standard_normal((items, WIDTH))
    return (colours[rows % 6] + things[rows // 6] + 0.2 * noise).astype(np.float32)


def captions() -> list[dict[str, str]]:
    """Three captions an item; those of measured items are an index caption and two queries."""
    rows = []
    for item in range(ITEMS):
        colour, thing, place = words_of(item)
        texts = [f"a {colour} {thing} {place}", f"{thing} {place}, {colour}", f"the {colour} {thing}"]
        roles = ["train"] * 3 if split_of(item) == "train" else ["index", "query", "query"]
        for text, role in zip(texts, roles, strict=True):
            rows.append({"item_id": f"item {item}", "text": text, "role": role})
    return rows


def write(folder: Path) -> None:
    """Write the inputs of README.md's commands."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "embeddings.npy", embeddings())
    items = [{"item_id": f"item {i}", "split": split_of(i), "words": words_of(i)} for i in range(ITEMS)]
    for name, rows in (("items", items), ("captions", captions())):
        lines = [json.dumps(row) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def formula_codec() -> dict[str, NDArray[np.generic]]:
    """`codec.safetensors` of a coarse-fine bundle with two codebooks, every weight from a formula.

    A trained one has 1.4 MB; its tensors' names, shapes and order are these.
    """
    widths = [WIDTH, 512, 256, 128, 4]
    shapes: dict[str, tuple[int, ...]] = {"codebooks.0": (5, 4), "codebooks.1": (5, 4)}
    for side, sizes in (("encoder", widths), ("decoder", widths[::-1])):
        for layer, (wide, narrow) in enumerate(itertools.pairwise(sizes)):
            shapes[f"{side}.{2 * layer}.weight"] = (narrow, wide)
            shapes[f"{side}.{2 * layer}.bias"] = (narrow,)
    tensors: dict[str, NDArray[np.generic]] = {"centres": embeddings()[::12].copy(), "scale": np.array([0.7])}
    for number, (name, shape) in enumerate(shapes.items()):
        count = np.arange(np.prod(shape), dtype=np.float64)
        scale = 1.0 if "codebooks" in name else (3 / shape[-1]) ** 0.5
        tensors[f"rqvae.{name}"] = (
            (scale * np.sin(1.7 * number + 2.3 * count * count)).reshape(shape).astype(np.float32)
        )
    return tensors


if __name__ == "__main__":
    write(Path(sys.argv[1]))
