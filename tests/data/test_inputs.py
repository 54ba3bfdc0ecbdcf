"""preprocess.data.inputs: good files come back as they are, every bad one gets a message that says where and what."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.data.embeddings import ShardedRows, open_embeddings
from preprocess.data.inputs import ItemsFile, match_items, read_captions, read_items

GOOD = np.arange(1, 13, dtype=np.float32).reshape(4, 3)


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_file_is_a_read_only_memory_map(tmp_path, dtype):
    opened = open_embeddings(save(tmp_path / "e.npy", GOOD.astype(dtype)))
    assert isinstance(opened, np.memmap)
    assert opened.dtype == dtype
    assert not opened.flags.writeable
    np.testing.assert_array_equal(opened, GOOD)


def test_shards_are_one_array_in_name_order(tmp_path):
    save(tmp_path / "b.npy", GOOD[1:])
    save(tmp_path / "a.npy", GOOD[:1])
    opened = open_embeddings(tmp_path)
    assert isinstance(opened, ShardedRows)
    assert (opened.shape, len(opened), opened.dtype) == ((4, 3), 4, np.float32)
    np.testing.assert_array_equal(np.asarray(opened), GOOD)
    np.testing.assert_array_equal(opened[np.array([3, 0, -1])], GOOD[[3, 0, -1]])
    np.testing.assert_array_equal(opened[1:3], GOOD[1:3])
    np.testing.assert_array_equal(opened[2], GOOD[2])
    with pytest.raises(IndexError, match="row 4 of 4"):
        opened[4]


def test_shards_must_agree(tmp_path):
    save(tmp_path / "a.npy", GOOD)
    save(tmp_path / "b.npy", GOOD[:, :2])
    with pytest.raises(ValueError, match=r"b\.npy: float32 of width 2, but a\.npy is float32 of width 3"):
        open_embeddings(tmp_path)


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"folder without \.npy files or tables"):
        open_embeddings(tmp_path)


def with_value(value: float, dtype: Any = np.float32) -> np.ndarray:
    array = GOOD.astype(dtype)
    array[2, 1] = value
    return array


def with_zero_row() -> np.ndarray:
    array = GOOD.copy()
    array[3] = 0
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (with_value(np.nan), "row 2, column 1: found nan"),
        (with_value(-np.inf), "row 2, column 1: found -inf"),
        (with_value(np.inf, np.float16), "row 2, column 1: found inf"),
        (with_value(1e20), r"row 2, column 1: found 1e\+20"),
        (with_zero_row(), r"row 3: all values are 0 \(1 such"),
        (GOOD.astype(np.float64), "dtype is float64, must be float16 or float32"),
        (GOOD.astype(">f4"), "dtype is >f4"),
        (GOOD.astype(np.int64), "dtype is int64"),
        (GOOD[0], r"shape is \(3,\)"),
        (GOOD[None], r"shape is \(1, 4, 3\)"),
        (GOOD[:0], r"shape is \(0, 3\); there must be at least one item"),
        (np.asfortranarray(GOOD), "Fortran order"),
        (np.array([[{"a": 1}]], dtype=object), "dtype is object"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, array, message):
    path = save(tmp_path / "e.npy", array)
    with pytest.raises(ValueError, match=message) as error:
        open_embeddings(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("keep", "message"), [(-4, "truncated, 172 bytes"), (20, "header is damaged"), (3, "not a .npy")]
)
def test_truncated_files_are_refused(tmp_path, keep, message):
    path = save(tmp_path / "e.npy", GOOD)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=message):
        open_embeddings(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "e.npy").write_text("item_id,embedding\n")
    with pytest.raises(ValueError, match=r"not a \.npy file"):
        open_embeddings(tmp_path / "e.npy")
    with pytest.raises(ValueError, match=r"none\.npy: cannot be read"):
        open_embeddings(tmp_path / "none.npy")


def test_items_come_back_as_they_stand(tmp_path):
    rows = [
        {"item_id": "a b/ü.jpg", "split": "test", "modality": "audio", "media": "x.wav", "tags": [1]},
        {"item_id": "b"},
    ]
    path = write_rows(tmp_path / "items.jsonl", *rows)
    assert read_items(path) == rows
    lazy = ItemsFile(path)
    assert (len(lazy), list(lazy), lazy[0], lazy[-1], lazy[:2]) == (2, rows, rows[0], rows[1], rows)
    with pytest.raises(IndexError):
        lazy[2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "row 2: item_id is missing"),
        ({"item_id": 7}, "row 2: item_id is 7; it must be a string, quote it"),
        ({"item_id": ""}, "row 2: item_id is ''; it must not be empty"),
        ({"item_id": "  "}, "must not be empty"),
        ({"item_id": "a\tb"}, r"row 2: item_id 'a\\tb' holds a tab"),
        ({"item_id": "a\nb"}, "holds a newline"),
        ({"item_id": "a\u2028b"}, r"holds the control character U\+2028"),
        ({"item_id": "first"}, "row 2: item_id 'first' is already that of row 1"),
        ({"item_id": "b", "split": "dev"}, "row 2: split is 'dev', must be one of train, valid, test"),
        ({"item_id": "b", "modality": "text"}, "row 2: modality is 'text', must be one of image, audio, video"),
        ({"item_id": "b", "media": 3}, "row 2: media is 3"),
        ({"item_id": "b", "tags": ["\ud83d"]}, r"row 2: holds half a surrogate pair \(U\+D83D\)"),
        (["item_id"], "row 2: found list, not an object"),
    ],
)
def test_bad_items_are_refused(tmp_path, row, message):
    path = write_rows(tmp_path / "items.jsonl", {"item_id": "first"}, row)
    for reader in (read_items, ItemsFile):
        with pytest.raises(ValueError, match=message) as error:
            reader(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"item_id": "\xff"}', "row 2: invalid UTF-8"),
        (b'{"item_id": ', "row 2: broken JSON"),
        (b"", "row 2: broken JSON"),
    ],
)
def test_unreadable_lines_are_refused(tmp_path, line, message):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b'{"item_id": "a"}\n' + line + b'\n{"item_id": "c"}\n')
    for reader in (read_items, ItemsFile):
        with pytest.raises(ValueError, match=message):
            reader(path)


def test_no_items_are_refused(tmp_path):
    (tmp_path / "items.jsonl").write_text("")
    for reader in (read_items, ItemsFile):
        with pytest.raises(ValueError, match="no items"):
            reader(tmp_path / "items.jsonl")
        with pytest.raises(ValueError, match="cannot be read"):
            reader(tmp_path / "none.jsonl")


def test_embeddings_and_items_must_be_as_many():
    with pytest.raises(ValueError, match=r"e\.npy: 4 rows, but items\.jsonl has 3 items"):
        match_items(GOOD, [{}] * 3, "e.npy", "items.jsonl")
    match_items(GOOD, [{}] * 4, "e.npy", "items.jsonl")


def test_captions_come_back_as_they_stand(tmp_path):
    rows = [
        {"item_id": "a", "text": "x", "role": "index", "split": "test", "caption_id": "a#0"},
        {"item_id": "a", "text": "y"},
    ]
    assert read_captions(write_rows(tmp_path / "captions.jsonl", *rows), [{"item_id": "a"}]) == rows


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"item_id": "z", "text": "x"}, "row 1: item_id 'z' is not among the items"),
        ({"text": "x"}, "row 1: item_id is missing"),
        ({"item_id": "a"}, "row 1: text is None"),
        ({"item_id": "a", "text": " \n"}, r"row 1: text is ' \\n'"),
        ({"item_id": "a", "text": 5}, "row 1: text is 5"),
        ({"item_id": "a", "text": "x", "role": "eval"}, "role is 'eval', must be one of train, index, query"),
        ({"item_id": "a", "text": "x", "split": "dev"}, "split is 'dev', must be one of train, valid, test"),
        ({"item_id": "a", "text": "x", "caption_id": "q\t1"}, r"caption_id 'q\\t1' holds a tab"),
        ({"item_id": "a", "text": "x", "caption_id": 1}, "caption_id is 1; it must be a string, quote it"),
        ({"item_id": "a", "text": "\udc00"}, "half a surrogate pair"),
    ],
)
def test_bad_captions_are_refused(tmp_path, row, message):
    path = write_rows(tmp_path / "captions.jsonl", row)
    with pytest.raises(ValueError, match=message) as error:
        read_captions(path, [{"item_id": "a"}])
    assert str(path) in str(error.value)
