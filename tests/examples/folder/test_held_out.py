"""The draw of items and captions for the recipe of folders, and TF-IDF beside it."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import load_example

from cart_fairseq.base.files import write_jsonl

held_out = load_example("folder", "held_out")
ITEMS, CAPTIONS = 12, 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Items with three captions each, but for the last, which has one, and whose second is a query."""
    np.save(tmp_path / "embeddings.npy", np.arange(ITEMS * 4, dtype=np.float16).reshape(ITEMS, 4))
    write_jsonl(tmp_path / "items.jsonl", [{"item_id": f"item {i}", "split": "valid"} for i in range(ITEMS)])
    rows = [{"item_id": f"item {i}", "text": f"text {i} {n}", "role": "index"} for i in range(ITEMS) for n in range(3)]
    rows = [*rows[:-2], {"item_id": f"item {ITEMS - 1}", "text": "asked", "role": "query"}]
    write_jsonl(tmp_path / "captions.jsonl", rows)
    return tmp_path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_caption_of_each_item_is_held_out(data, tmp_path):
    out = tmp_path / "drawn"
    drawn = held_out.draw(data, 8, 1, out)
    items = [item["item_id"] for item in lines(out / "items.jsonl")]
    assert len(set(items)) == 8
    assert f"item {ITEMS - 1}" not in items
    numbers = [int(item.split()[1]) for item in items]
    assert (np.load(out / "embeddings.npy") == np.load(data / "embeddings.npy")[numbers]).all()
    known, asked = lines(out / "captions.jsonl"), lines(out / "held_out.jsonl")
    assert (known, asked) == (drawn["known"], drawn["held_out"])
    assert [query["item_id"] for query in asked] == items
    texts = {each["text"] for each in [*known, *asked]}
    assert texts == {f"text {number} {n}" for number in numbers for n in range(CAPTIONS)}
    assert len(known) == 8 * (CAPTIONS - 1)
    assert held_out.draw(data, 8, 1, tmp_path / "again") == drawn
    assert held_out.draw(data, 8, 2, tmp_path / "other") != drawn


def test_more_items_than_there_are_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"11 items have several captions, but --items is 12; lower it$"):
        held_out.draw(data, ITEMS, 1, tmp_path / "drawn")


def test_tf_idf_ranks_by_the_best_caption_or_by_all_as_one():
    known = [
        {"item_id": "a", "text": "red dog"},
        {"item_id": "a", "text": "green tree"},
        {"item_id": "b", "text": "red dog in snow with many other things around"},
        {"item_id": "b", "text": "red dog"},
    ]
    asked = [{"item_id": "a", "text": "red tree"}, {"item_id": "b", "text": "red dog"}]
    found = held_out.by_words(known, asked)
    # "red dog" is a caption of both, and a tie counts against the method
    assert found["best_caption"]["recall_at_1"] == 50
    assert found["captions_as_one_text"]["recall_at_1"] == 50
    assert all(figures["recall_at_5"] == 100 for figures in found.values())
