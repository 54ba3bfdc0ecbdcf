"""Who trains, who measures, and against which items."""

import numpy as np
import pytest

from preprocess.data.roles import Caption, assign, candidate_rows, hold_out, resolve, trainable

ITEMS = {"a": 0, "b": 1, "c": 2, "d": 3}
SPLITS = ["train", "valid", "test", None]


def one(item_id: str, **fields: str) -> Caption:
    return resolve([{"item_id": item_id, "text": "x", **fields}], ITEMS, SPLITS, "captions.jsonl")[0]


@pytest.mark.parametrize(
    ("item", "fields", "role", "split"),
    [
        ("a", {}, "train", "train"),
        ("b", {}, "query", "valid"),
        ("c", {}, "query", "test"),
        ("d", {}, "train", None),
        ("d", {"split": "test"}, "query", "test"),
        ("d", {"role": "query"}, "query", None),
        ("c", {"role": "index"}, "index", "test"),
        ("a", {"role": "index"}, "index", "train"),
    ],
)
def test_role_and_split_defaults(item, fields, role, split):
    caption = one(item, **fields)
    assert (caption.role, caption.split) == (role, split)


@pytest.mark.parametrize(
    ("item", "fields", "message"),
    [
        ("b", {"role": "train"}, "role is 'train', but its split is 'valid'"),
        ("d", {"role": "train", "split": "test"}, "role is 'train', but its split is 'test'"),
        ("a", {"role": "query"}, "role is 'query', but its split is 'train'"),
        ("a", {"split": "test"}, "belongs to split 'train'"),
    ],
)
def test_contradictions_name_row_and_remedy(item, fields, message):
    rows = [{"item_id": "d", "text": "fine"}, {"item_id": item, "text": "x", **fields}]
    with pytest.raises(ValueError, match=message) as error:
        resolve(rows, ITEMS, SPLITS, "captions.jsonl")
    assert str(error.value).startswith("captions.jsonl, row 2: ")


def test_query_ids_are_caption_ids_or_row_numbers_from_zero_and_unique():
    rows = [{"item_id": "a", "text": "x", "caption_id": "mine"}, {"item_id": "a", "text": "x"}]
    assert [c.query_id for c in resolve(rows, ITEMS, SPLITS, "f")] == ["mine", "q1"]
    rows[0]["caption_id"] = "q1"
    with pytest.raises(ValueError, match="f, row 2: its query id 'q1' is that of row 1"):
        resolve(rows, ITEMS, SPLITS, "f")


@pytest.mark.parametrize(
    ("include", "trained"),
    [("include", {"a", "b", "c", "d"}), ("exclude", {"a", "d"}), ("borrowed", {"a", "c", "d"})],
)
def test_index_captions_of_measured_items_follow_the_switch(include, trained):
    captions = [one(item, role="index", source="neighbours" if item == "c" else "blip") for item in ITEMS]
    subsets = assign(captions, include)
    assert {caption.item_row for caption in subsets["train"]} == {ITEMS[item] for item in trained}
    assert not subsets["valid"]
    assert not subsets["test"]


def test_queries_go_to_their_split_and_without_one_to_test():
    subsets = assign([one("b"), one("c"), one("d", role="query"), one("d", split="valid")], "include")
    assert [c.item_row for c in subsets["valid"]] == [1, 3]
    assert [c.item_row for c in subsets["test"]] == [2, 3]
    assert subsets["train"] == []


def training(*texts: list[str]) -> list[Caption]:
    """Captions of training items: the i-th list is what item i is called."""
    pairs = [(row, text) for row, of_item in enumerate(texts) for text in of_item]
    return [Caption(n + 1, f"q{n}", row, text, "train", None) for n, (row, text) in enumerate(pairs)]


def test_hold_out_takes_one_caption_per_item_and_never_the_only_one():
    train = training(*[[f"thing {i} {j}" for j in range(3)] for i in range(20)], ["alone"])
    kept, held = hold_out(train, 1000, seed=1)
    assert sorted(c.item_row for c in held) == list(range(20))
    assert {c.item_row for c in kept} == set(range(21))
    assert sorted(kept + held, key=lambda c: c.number) == train


def test_hold_out_is_seeded_and_five_percent_up_to_a_thousand():
    train = training(*[[f"thing {i} {j}" for j in range(4)] for i in range(100)])
    first, again, other = (hold_out(train, None, seed)[1] for seed in (1, 1, 2))
    assert len(first) == 20
    assert first == again
    assert first != other
    many = training(*[["x y", f"x {i}"] for i in range(30_000)])
    assert len(hold_out(many, None, 1)[1]) == 1000
    assert len(hold_out(training(["a b", "b a"]), None, 1)[1]) == 1
    assert hold_out(train, 0, 1) == (train, [])


def test_hold_out_leaves_captions_that_are_needed_and_draws_no_others():
    train = training(*[[f"thing {i} {j}" for j in range(3)] for i in range(20)])
    needed = {caption.number for caption in train if caption.text.endswith("0")}
    held = hold_out(train, 1000, 1, needed)[1]
    drawn = hold_out(train, 1000, 1)[1]
    assert len(drawn) == 20
    assert held == [caption for caption in drawn if caption.number not in needed]
    assert 1 <= len(held) < 20
    assert hold_out(train, 1000, 1, {c.number for c in train}) == (train, [])


def test_trainable_is_what_is_not_measured():
    train = training(*[[f"thing {i} {j}" for j in range(3)] for i in range(20)])
    queries = [Caption(90, "q90", 3, "a query", "query", "test")]
    assert trainable(train + queries, "include", 5, 2) == hold_out(train, 5, 2)[0]
    valid = [Caption(91, "q91", 3, "a query", "query", "valid")]
    assert trainable(train + queries + valid, "include", 5, 2) == train


def test_hold_out_prefers_texts_that_make_fair_queries():
    train = training(
        ["red Fox", "red  fox", "fox red"],  # the first two are one text: measuring either would be memory
        ["wolf red", "red wolf", "animal"],  # "animal" is a caption of another item too
        ["animal", "fox wolf", "unheard"],  # "unheard" occurs nowhere else
    )
    for seed in range(10):
        held = {caption.item_row: caption.text for caption in hold_out(train, 3, seed)[1]}
        assert held[0] == "fox red"
        assert held[1] in ("wolf red", "red wolf")
        assert held[2] == "fox wolf"


def test_hold_out_leaves_measured_items_alone_and_takes_index_captions_last():
    index = [Caption(n, f"q{n}", row, f"w{n}", "index", split) for n, row, split in ((90, 8, "test"), (91, 8, "test"))]
    index += [Caption(92, "q92", 9, "w w", "index", None), Caption(93, "q93", 9, "w w w", "train", None)]
    assert [c.number for c in hold_out(index, 1000, 1)[1]] == [93]
    assert hold_out(index[:2], 1000, 1) == (index[:2], [])


def test_candidates_are_the_split_and_items_without_one():
    assert candidate_rows(SPLITS, "all").tolist() == [0, 1, 2, 3]
    assert candidate_rows(SPLITS, "valid").tolist() == [1, 3]
    assert candidate_rows(SPLITS, "test").tolist() == [2, 3]
    held_out = candidate_rows(SPLITS, "valid", held_out=True)
    assert held_out.tolist() == [0, 1, 3]
    assert held_out.dtype == np.int64
