"""A small catalogue for the tests of `join_captions`, and what is read of its join."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from conftest import WORDS, write_jsonl

from preprocess.join.build import JoinedCaptions, join_captions
from preprocess.join.settings import JoinSettings

ITEMS, WIDTH, TEXT = 60, 12, 6
SMALL: dict[str, Any] = {"text_dim": TEXT, "pca": 5, "ridge": 2.0}
BARE = 8
"""A valid item without captions but queries."""


def split_of(item: int) -> str:
    return ("train", "train", "valid", "test")[item % 4] if item != BARE else "valid"


def captions_of_items() -> list[dict]:
    """Three captions an item; those of measured items are an index caption and two queries."""
    draw = np.random.default_rng(3)
    rows = []
    for item in range(ITEMS):
        for number in range(3):
            words = [WORDS[item % 7], *draw.choice(WORDS, size=draw.integers(3, 9))]
            measured = split_of(item) != "train"
            role = "train" if not measured else "index" if number == 0 and item != BARE else "query"
            rows.append({"item_id": f"i{item}", "text": " ".join(words), "role": role})
    return rows


def embeddings_of_items() -> np.ndarray:
    draw = np.random.default_rng(4)
    return (draw.standard_normal((7, WIDTH))[np.arange(ITEMS) % 7] * 3 + draw.standard_normal((ITEMS, WIDTH))).astype(
        np.float32
    )


class World(NamedTuple):
    """Files of a small catalogue, as the first arguments of `join_captions`, and the folder to join them into."""

    embeddings: Path
    items: Path
    captions: Path
    output: Path


def write_world(folder: Path, captions: list[dict] | None = None, splits: bool = True) -> World:
    """Files of a small catalogue; its join is to be FOLDER/joined."""
    folder.mkdir(exist_ok=True, parents=True)
    np.save(folder / "embeddings.npy", embeddings_of_items())
    items = [{"item_id": f"i{item}", **({"split": split_of(item)} if splits else {})} for item in range(ITEMS)]
    write_jsonl(folder / "items.jsonl", items)
    write_jsonl(folder / "captions.jsonl", captions or captions_of_items())
    return World(*(folder / name for name in ("embeddings.npy", "items.jsonl", "captions.jsonl", "joined")))


def join(files: World, *, like: Path | None = None, **settings: Any) -> JoinedCaptions:
    """Join a small catalogue."""
    return join_captions(*files, JoinSettings(**settings), like=like)


def world(folder: Path, captions: list[dict] | None = None, splits: bool = True) -> list[str]:
    """Files of a small catalogue; the arguments of the command that joins them into FOLDER/joined."""
    files = write_world(folder, captions, splits)
    return [text for name, path in files._asdict().items() for text in (f"--{name}", str(path))]


def result(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of items and of captions of the join FOLDER/joined."""
    items, captions = (np.load(folder / "joined" / name) for name in ("embeddings.npy", "captions.npy"))
    return items.astype(np.float32), captions.astype(np.float32)
