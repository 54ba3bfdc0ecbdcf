"""Files that are not ours block no update of the bundle or data-bin in which they lie, and stay."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from changing import make_data_bin, new_items
from conftest import write_jsonl

from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.catalogue.data_bin import DataBin
from preprocess.data_bin.build import binarize
from preprocess.updating.bundle import REMOVED, SEGMENT
from preprocess.updating.steps import add, compact, remove


def text(path: Path) -> None:
    path.write_text("mine\n", encoding="utf-8")


def folder(path: Path) -> None:
    path.mkdir()
    text(path / "mine")


def link(path: Path) -> None:
    path.symlink_to("/nonexistent")


NAMES: dict[str, list[Callable[[Path], None]]] = {
    "identifiers/segments/notes": [folder, link],
    "identifiers/segments/.DS_Store": [text],
    "identifiers/segments/000007": [text, folder],
    "identifiers/removed.000002.npy": [text, folder],
    "identifiers/removed.000009.npy": [folder, text],
    "identifiers/next.week": [text],
    "next.0123456789abcdef": [text, folder],
    ".next.0123456789abcdef.tmp": [folder, link],
    ".next.fedcba9876543210.tmp": [text, folder],
    "next.week": [folder],
    "candidates.mine.npy": [folder, link],
    "candidates.txt": [text],
    "queries.mine.parquet": [text],
    "dense.embeddings.npy": [text],
    "search": [text],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data-bin without candidate sets of the user's own."""
    data = make_data_bin(tmp_path_factory.mktemp("strays"))
    (data / "candidates.mine.npy").unlink()
    return data


@pytest.mark.parametrize("kind", [0, 1])
def test_strays_block_no_update_and_stay(tmp_path: Path, made: Path, kind: int):
    strays = [(made / name, kinds[min(kind, len(kinds) - 1)]) for name, kinds in NAMES.items()]
    for path, make in strays:
        path.parent.mkdir(exist_ok=True)
        make(path)
    name = f"new {100 * kind}"
    add(made, *new_items(tmp_path / "new", 1, first=100 * kind))
    remove(made, [name])
    compact(made)
    assert name not in DataBin(made).bundle.item_ids
    for path, make in strays:
        assert os.path.lexists(path), path
        if make is folder:
            (path / "mine").unlink()
            path.rmdir()
        else:
            path.unlink()


@pytest.mark.parametrize("make", [text, folder])
def test_an_update_takes_a_name_that_nothing_has(tmp_path: Path, made: Path, make: Callable[[Path], None]):
    bundle = DataBin(made).bundle
    taken = [made / "identifiers" / pattern.format(bundle.revision + 1) for pattern in (SEGMENT, REMOVED)]
    taken += [made / "identifiers" / SEGMENT.format(bundle.revision + 2)]
    for path in taken:
        path.parent.mkdir(exist_ok=True)
        make(path)
    added = add(made, *new_items(tmp_path / "new", 8, first=500))
    assert added.bundle.parts[-1].folder == SEGMENT.format(bundle.revision + 3)
    taken.append(made / "identifiers" / REMOVED.format(bundle.revision + 2))
    make(taken[-1])
    removed = remove(made, ["new 500"])
    assert removed.bundle.manifest["removed"] == REMOVED.format(bundle.revision + 3)
    remove(made, [f"new {500 + number}" for number in range(1, 8)])
    compact(made)
    assert sorted(path.name for path in (made / "identifiers").glob("removed.*")) == sorted(
        path.name for path in taken if path.name.startswith("removed.")
    )
    for path in taken:
        mine = path / "mine" if make is folder else path
        assert mine.read_text() == "mine\n"
        shutil.rmtree(path) if make is folder else path.unlink()


def test_a_file_in_the_place_of_the_folder_of_parts_is_named(tmp_path: Path, made: Path):
    segments = made / "identifiers" / "segments"
    if segments.is_dir():
        shutil.rmtree(segments)
    text(segments)
    with pytest.raises(ValueError, match=r"segments: is no folder, and an update writes .*; move it away"):
        add(made, *new_items(tmp_path / "new", 1, first=9999))
    assert segments.read_text() == "mine\n"
    segments.unlink()
    add(made, *new_items(tmp_path / "new", 1, first=9999))


@pytest.fixture
def without_tests(tmp_path: Path) -> Path:
    """A data-bin without items of split test, so without a candidate set of this name."""
    data = make_data_bin(tmp_path / "world")
    remove(data, [f"item {row}" for row, split in enumerate(DataBin(data).bundle.splits) if split == "test"])
    compact(data)
    write_jsonl(tmp_path / "captions.jsonl", read_jsonl_of_items(tmp_path / "world" / "captions.jsonl", data))
    binarize(data / "identifiers", tmp_path / "captions.jsonl", tmp_path / "data-bin")
    assert "test" not in DataBin(tmp_path / "data-bin").candidate_names
    return tmp_path / "data-bin"


def read_jsonl_of_items(path: Path, data: Path) -> list[dict[str, Any]]:
    """The captions of items that are in a catalogue."""
    there = set(DataBin(data).bundle.item_ids)
    return [row for row in read_jsonl(path) if row["item_id"] in there]


def test_a_candidate_set_of_ones_own_is_kept_until_the_data_bin_needs_its_name(tmp_path: Path, without_tests: Path):
    own = without_tests / "candidates.test.npy"
    np.save(own, np.array([1, 3, 4]))
    gone = DataBin(without_tests).bundle.item_ids[3]
    remove(without_tests, [gone])
    assert np.load(own).tolist() == [1, 4]
    new = new_items(tmp_path / "new", 1)  # of split test
    with pytest.raises(
        ValueError, match=r"candidates\.test\.npy: is not of binarize, .* needs this name now; rename it"
    ):
        add(without_tests, *new)
    assert np.load(own).tolist() == [1, 4]
    own.rename(without_tests / "candidates.mine.npy")
    add(without_tests, *new)
    data = DataBin(without_tests)
    assert np.load(own.with_name("candidates.mine.npy")).tolist() == [1, 4]
    assert np.load(own).tolist() == [data.bundle.row_of["new 0"]]


@pytest.mark.parametrize("make", [folder, link])
def test_what_has_the_name_of_the_next_candidate_set_is_named(tmp_path: Path, without_tests: Path, make: Any):
    make(without_tests / "candidates.test.npy")
    new = new_items(tmp_path / "new", 1)
    before = DataBin(without_tests).bundle.state
    with pytest.raises(ValueError, match=r"candidates\.test\.npy: is not of binarize"):
        add(without_tests, *new)
    assert DataBin(without_tests).bundle.state == before
    assert os.path.lexists(without_tests / "candidates.test.npy")
