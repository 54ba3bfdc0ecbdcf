"""A small catalogue for the tests of `preprocess.join_captions`, and what is read of its join."""

from pathlib import Path

import numpy as np
import pytest
from conftest import WORDS, write_jsonl

from cart_fairseq.files import run_script
from preprocess import join_captions

ITEMS, WIDTH, TEXT = 60, 12, 6
SMALL = ["--text-dim", str(TEXT), "--pca", "5", "--ridge", "2"]
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


def world(folder: Path, captions: list[dict] | None = None, splits: bool = True) -> list[str]:
    """Files of a small catalogue; the arguments that join them into FOLDER/joined."""
    folder.mkdir(exist_ok=True, parents=True)
    np.save(folder / "embeddings.npy", embeddings_of_items())
    items = [{"item_id": f"i{item}", **({"split": split_of(item)} if splits else {})} for item in range(ITEMS)]
    write_jsonl(folder / "items.jsonl", items)
    write_jsonl(folder / "captions.jsonl", captions or captions_of_items())
    names = {"embeddings": "embeddings.npy", "items": "items.jsonl", "captions": "captions.jsonl", "output": "joined"}
    return [text for name, file in names.items() for text in (f"--{name}", str(folder / file))]


def result(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.load(folder / "joined" / name).astype(np.float32) for name in ("embeddings.npy", "captions.npy"))


def refusal(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    with pytest.raises(SystemExit):
        run_script(lambda: join_captions.main(argv))
    message = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in message
    return message
