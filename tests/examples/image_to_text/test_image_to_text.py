"""examples/image_to_text: captions become items, and images ask for them."""

import numpy as np
import pytest
from conftest import load_example, write_jsonl
from recipe_calls import joined_run
from recipe_samples import write_data

from cart_fairseq.base.reading import read_json, read_jsonl
from preprocess.data.joined_folder import ALIGNED

captions_as_items = load_example("image_to_text", "captions_as_items")
image_to_text = load_example("image_to_text", "image_to_text")


def split_of(item: int) -> str:
    return "valid" if item % 4 == 0 else "train"


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """DATA, the catalogue of its captions, and OUT of a run on that."""
    folder = tmp_path_factory.mktemp("image-to-text")
    data = write_data(folder / "data")
    write_jsonl(data / "items.jsonl", [{"item_id": f"i{row}", "split": split_of(row)} for row in range(20)])
    lines = read_jsonl(data / "captions.jsonl")
    roles = [("index" if row % 5 == 0 else "query") if split_of(row // 5) == "valid" else "train" for row in range(100)]
    write_jsonl(data / "captions.jsonl", [{**line, "role": role} for line, role in zip(lines, roles, strict=True)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(captions_as_items, "ALIGN", 4)
        captions_as_items.main([str(data), str(folder / "catalogue")])
    out = joined_run(folder / "catalogue", folder / "out", "--media-positions", 2)
    return data, folder / "catalogue", out


def test_every_caption_is_an_item_with_its_own_text(turned):
    data, catalogue, _ = turned
    captions, items = read_jsonl(data / "captions.jsonl"), read_jsonl(catalogue / "items.jsonl")
    assert sorted(item["text"] for item in items) == sorted(caption["text"] for caption in captions)
    splits = {item["item_id"]: item.get("split") for item in read_jsonl(data / "items.jsonl")}
    assert all(item["split"] == splits[item["of"]] for item in items)
    own = {item["item_id"]: item["text"] for item in items}
    trained = [line for line in read_jsonl(catalogue / "captions.jsonl") if line["role"] == "index"]
    assert {line["item_id"]: line["text"] for line in trained} == own
    for name, rows in (("media.npy", len(splits)), ("embeddings.npy", len(items))):
        vectors = np.load(catalogue / name)
        assert len(vectors) == rows
        np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=5e-3)


def test_one_caption_of_each_valid_item_is_asked_for_by_the_next(turned):
    data, catalogue, out = turned
    items = {item["item_id"]: item for item in read_jsonl(catalogue / "items.jsonl")}
    asked = [line for line in read_jsonl(catalogue / "captions.jsonl") if line["role"] == "query"]
    valid = [item["item_id"] for item in read_jsonl(data / "items.jsonl") if item["split"] == "valid"]
    assert [items[line["item_id"]]["of"] for line in asked] == valid
    for line in asked:
        owner, number = line["item_id"].split("#")
        assert line["text"] == items[f"{owner}#{(int(number) + 1) % 5}"]["text"]
    assert {number for line in asked for number in line["item_id"].split("#")[1:]} == set("01234")
    assert len(np.load(out / "data-bin" / "candidates.valid.npy")) == 5 * len(valid)


def test_media_have_the_vectors_of_items_without_captions(turned):
    data, catalogue, _ = turned
    rows = [row for row, item in enumerate(read_jsonl(data / "items.jsonl")) if item["split"] == "valid"]
    joined = np.load(catalogue / "towers" / ALIGNED).astype(np.float32)  # of valid items, whose captions it did not see
    found = np.load(catalogue / "media.npy").astype(np.float32)
    np.testing.assert_allclose(found[rows], joined[rows], atol=2e-3)


def test_both_systems_are_measured_on_the_same_queries(turned, tmp_path):
    image_to_text.main([*map(str, turned), "--json", str(tmp_path / "found.json")])
    found = read_json(tmp_path / "found.json")
    assert [row["system"] for row in found["results"]] == ["CART", "dual tower"] * 2
    assert found["queries"] > 0
    sizes = [row["candidates"] for row in found["results"]]
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3]


def test_the_first_caption_of_the_image_counts():
    found = [["b", "a", "a"], ["c", "c", "a"], ["b"]]
    assert image_to_text.ranks(found, ["a", "c", "a"]).tolist() == [2, 1, 0]


def test_the_tower_ranks_by_cosine():
    captions = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    found = image_to_text.of_tower(np.array([[0, 1]], dtype=np.float32), captions, ["a", "b", "c"])
    assert found == [["c", "b", "a"]]


def test_a_split_without_captions_is_refused(turned):
    with pytest.raises(ValueError, match="no captioned item of split 'nowhere'"):
        image_to_text.main([*map(str, turned), "--subset", "nowhere"])
