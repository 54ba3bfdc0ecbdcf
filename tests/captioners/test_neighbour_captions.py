"""Captions borrowed from neighbours: whose, which, and never a query."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import write_jsonl

from preprocess.captioners.captioner import Target
from preprocess.captioners.generate import generate_captions
from preprocess.captioners.neighbours import NeighbourCaptioner
from preprocess.captioners.settings import CaptionSettings
from preprocess.data.roles import Caption

DOGS = ["A brown dog runs on the grass.", "A dog runs over green grass", "The dog runs on grass"]
ODD = ["Winner of the county fair", "Untitled", "My holiday"]


def lent(texts: list[tuple[int, str]], role: str = "train") -> list[Caption]:
    return [Caption(i + 1, f"{role}{i}", row, text, role, None) for i, (row, text) in enumerate(texts)]


def borrow(captioner: NeighbourCaptioner, row: int) -> list[str]:
    return captioner.caption([Target(row, str(row), None, None)], [None])[0]


def test_what_neighbours_agree_on_comes_first():
    """Item 6 lies among three dogs, away from two cats; each dog has a caption that is like nobody else's."""
    points = np.array([[1, 0.1], [1, 0.2], [1, 0.3], [-1, 0.1], [-1, 0.2], [0.1, -1], [1, 0.15]], dtype=np.float16)
    texts = [(i, text) for i in range(3) for text in (ODD[i], DOGS[i])]
    cats = [(3, "A cat sleeps on the grass"), (4, "A cat sleeps on grass")]
    captioner = NeighbourCaptioner(points, lent(texts + cats), neighbours=3)
    found = borrow(captioner, 6)
    assert set(found[:3]) == set(DOGS)
    assert set(found[3:]) == set(ODD)
    # The middle one shares most with both others.
    assert found[0] == DOGS[2]


def test_one_neighbour_does_not_outvote_the_others():
    points = np.eye(4, dtype=np.float32)[[0, 0, 0, 0]] + 0.01 * np.eye(4, dtype=np.float32)
    same = [(0, "sunset"), (0, "sunset sky"), (0, "a sunset sky"), (0, "the sunset sky")]
    captioner = NeighbourCaptioner(points, lent([*same, (1, "two dogs run"), (2, "dogs run fast")]), neighbours=3)
    assert borrow(captioner, 3)[:2] == ["two dogs run", "dogs run fast"]


def test_agreement_is_the_mean_cosine_to_captions_of_other_items():
    rng = np.random.default_rng(0)
    words = np.array(list("abcdefgh"))
    texts = [(int(row), " ".join(rng.choice(words, 5))) for row in np.repeat(np.arange(6), 2)]
    captioner = NeighbourCaptioner(rng.normal(size=(7, 4)).astype(np.float32), lent(texts), neighbours=6)
    vectors = captioner.vectors.toarray()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    mean = {}
    for i, (row, text) in enumerate(texts):
        mean[text] = np.mean([vectors[i] @ vectors[j] for j, (other, _) in enumerate(texts) if other != row])
    scores = [mean[text] for text in borrow(captioner, 6)]
    assert len(scores) == 12
    np.testing.assert_array_less(np.diff(scores), 1e-6)


def test_nearest_by_cosine_not_by_length():
    points = np.array([[0, 1], [100, 0.1], [1, 1]], dtype=np.float32)
    captioner = NeighbourCaptioner(points, lent([(0, "far dog"), (1, "near cat")]), neighbours=1)
    wide = np.array([[1, 0.0]], dtype=np.float32)
    captioner.embeddings = np.concatenate([points, wide])
    assert borrow(captioner, 3) == ["near cat"]


@pytest.mark.parametrize("neighbours", [1, 2, 50])
def test_an_item_never_borrows_its_own(neighbours):
    """Even where all items are at one place, and it would find itself anywhere."""
    points = np.ones((5, 3), dtype=np.float32)
    captioner = NeighbourCaptioner(points, lent([(row, f"words of {row}") for row in range(5)]), neighbours)
    for row in range(5):
        found = borrow(captioner, row)
        assert f"words of {row}" not in found
        assert len(found) == min(neighbours, 4)


def test_the_only_lender_gets_nothing():
    captioner = NeighbourCaptioner(np.ones((2, 3), dtype=np.float32), lent([(0, "a dog")]))
    assert borrow(captioner, 0) == []
    assert borrow(captioner, 1) == ["a dog"]


def test_without_training_captions_there_is_nothing_to_borrow():
    with pytest.raises(ValueError, match="no caption has the role 'train'"):
        NeighbourCaptioner(np.ones((2, 3), dtype=np.float32), lent([(0, "a dog")], role="index"))


def test_no_query_and_no_index_caption_is_ever_borrowed(tmp_path: Path):
    """All items lie close together, so that everyone would borrow from everyone; queries and index captions are marked."""
    splits = ["train", "train", "train", "valid", "test", None]
    items = [{"item_id": f"i{n}"} | ({"split": split} if split else {}) for n, split in enumerate(splits)]
    captions = []
    for n, split in enumerate(splits):
        for number in range(3):
            role = "query" if split in ("valid", "test") else "train"
            text = f"dog number {number} runs" + (" marked" if role == "query" else f" by {n}")
            captions.append({"item_id": f"i{n}", "text": text, "role": role})
        captions.append({"item_id": f"i{n}", "text": f"dog runs marked too {n}", "role": "index"})
    captions.append({"item_id": "i5", "text": "dog runs marked without a split", "role": "query"})
    np.save(tmp_path / "e.npy", (1 + 0.01 * np.random.default_rng(0).normal(size=(6, 4))).astype(np.float32))
    files = (write_jsonl(tmp_path / "items.jsonl", items), write_jsonl(tmp_path / "captions.jsonl", captions))
    settings = CaptionSettings(captioner="neighbours", captions_per_item=20)
    generate_captions(*files, tmp_path / "new.jsonl", settings, embeddings=tmp_path / "e.npy")
    rows = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text().splitlines()]
    assert rows[: len(captions)] == captions
    new = rows[len(captions) :]
    assert {row["item_id"] for row in new} == {item["item_id"] for item in items}
    assert not [row for row in new if "marked" in row["text"]]
    # 12 training captions, of which three are an item's own in four cases.
    assert [sum(row["item_id"] == item["item_id"] for row in new) for item in items] == [9, 9, 9, 12, 12, 9]
    for row in new:
        assert not row["text"].endswith(f"by {row['item_id'][1:]}")
        assert (row["role"], row["source"]) == ("index", "neighbours")


def test_a_join_gives_the_rows_that_identifiers_are_built_from(tmp_path: Path):
    joined = Path(__file__).resolve().parents[1] / "compatibility" / "joined"
    count = len(np.load(joined / "embeddings.npy"))
    items = write_jsonl(tmp_path / "items.jsonl", [{"item_id": str(i), "split": "train"} for i in range(count)])
    texts = [{"item_id": str(i), "text": f"text {i}", "role": "train"} for i in range(count)]
    captions = write_jsonl(tmp_path / "captions.jsonl", texts)
    settings = CaptionSettings(captioner="neighbours", neighbours=2)
    found = []
    for number, rows in enumerate((joined, joined / "embeddings.npy")):
        made = generate_captions(items, captions, tmp_path / f"{number}.jsonl", settings, embeddings=rows)
        found.append(made.path.read_bytes())
    assert found[0] == found[1]
    assert made.captions > 0
