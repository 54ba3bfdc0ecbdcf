"""What a new data-bin, bundle or MODEL folder in the place of an earlier one keeps of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from changing import QUICK, build, embed, make_codec, new_items
from conftest import ITEMS, make_captions, write_jsonl

from cart_fairseq.base import files
from cart_fairseq.base.files import replacing
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.segments import OURS
from preprocess.api import DataBinSettings, add, binarize, build_identifiers, compact, remove

DEFAULT, OTHER = DataBinSettings(), DataBinSettings(seed=2)


@pytest.fixture
def world(tmp_path):
    build(tmp_path / "identifiers", make_codec(), unique_size=32)
    make_captions(tmp_path / "captions.jsonl")
    make(tmp_path)
    return tmp_path


def make(root: Path, settings: DataBinSettings = DEFAULT, identifiers: str = "identifiers"):
    return binarize(root / identifiers, root / "captions.jsonl", root / "data-bin", settings)


def rows_of(data: Path) -> list[int]:
    """The rows of the user's candidate set."""
    rows = DataBin(data).candidates("mine")
    assert rows is not None
    return rows.tolist()


def add_strays(folder: Path) -> None:
    """A user's file, a folder with a link, and a link."""
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoints" / "deep").mkdir(parents=True)
    (folder / "checkpoints" / "deep" / "best.pt").write_text("trained")
    (folder / "checkpoints" / "last.pt").symlink_to("deep/best.pt")
    (folder / "link").symlink_to("nowhere")
    (folder / ".notes.abcd1234.tmp").mkdir()  # of a process that was killed


def assert_strays(folder: Path) -> None:
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "checkpoints" / "last.pt").read_text() == "trained"
    assert (folder / "checkpoints" / "last.pt").is_symlink()
    assert (folder / "link").is_symlink()


def test_binarising_again_keeps_candidate_sets_and_files_of_users(world):
    data = world / "data-bin"
    np.save(data / "candidates.mine.npy", np.array([1, 5, 9]))
    (data / "search").mkdir()
    (data / "queries.old.parquet").write_text("of an earlier version")
    add_strays(data)
    made = make(world, OTHER)
    assert "note: your candidate set 'mine' was kept, with 3 of its 3 items" in made.summary
    assert rows_of(data) == [1, 5, 9]
    assert_strays(data)
    assert not (data / "search").exists()
    assert not (data / "queries.old.parquet").exists()
    assert not (data / ".notes.abcd1234.tmp").exists()


def test_candidate_sets_follow_their_items_to_other_rows(world):
    data = world / "data-bin"
    remove(data, ["item 0", "item 5"])
    np.save(data / "candidates.mine.npy", np.array([1, 4, 9]))
    np.save(data / "candidates.gone.npy", np.array([7]))
    expected = ["item 1", "item 4", "item 9"]
    shutil.copytree(data / "identifiers", world / "later")
    remove(world / "later", ["item 7"])
    compact(world / "later")
    rows = [json.loads(line) for line in (world / "captions.jsonl").read_text().splitlines()]
    left = DataBin(data).bundle.row_of.keys() - {"item 7"}
    write_jsonl(world / "captions.jsonl", [row for row in rows if row["item_id"] in left])
    made = make(world, OTHER, "later")
    assert "note: your candidate set 'gone' was left out: none of its items is left" in made.summary
    found = DataBin(data)
    assert [found.bundle.item_id(row) for row in rows_of(data)] == expected
    assert rows_of(data) != [1, 4, 9]
    assert "gone" not in found.candidate_names


def test_a_data_bin_without_captions_keeps_them_too(tmp_path):
    build(tmp_path / "identifiers", make_codec(), unique_size=32)
    for number in range(2):
        np.save(tmp_path / "embeddings.npy", embed(ITEMS, number))
        binarize(tmp_path / "identifiers", None, tmp_path / "data-bin", embeddings=tmp_path / "embeddings.npy")
        np.save(tmp_path / "data-bin" / "candidates.mine.npy", np.array([2]))
    binarize(tmp_path / "identifiers", None, tmp_path / "data-bin", OTHER, embeddings=tmp_path / "embeddings.npy")
    assert rows_of(tmp_path / "data-bin") == [2]


def test_a_set_whose_items_are_not_known_is_not_lost(world):
    np.save(world / "data-bin" / "candidates.mine.npy", np.array([1, 5, ITEMS + 5]))
    with pytest.raises(ValueError, match=r"candidates.mine.npy: .* expected item rows .* is of your own, so move it"):
        make(world, OTHER)
    np.save(world / "data-bin" / "candidates.mine.npy", np.array([1]))
    (world / "data-bin" / "trie.safetensors").unlink()
    with pytest.raises(ValueError, match=r"trie.safetensors: missing.*candidates.mine.npy is of your own"):
        make(world)
    (world / "data-bin" / "candidates.mine.npy").unlink()
    assert make(world).is_new


def test_identifiers_of_an_earlier_state_do_not_replace_an_updated_catalogue(world):
    data = world / "data-bin"
    add(data, *new_items(world / "new"))
    assert not make(world).is_new  # the same command has nothing to do
    with pytest.raises(
        ValueError, match=r"was updated \(revision 1\).* would be lost; give --identifiers .*identifiers"
    ):
        make(world, OTHER)
    assert DataBin(data).bundle.revision == 1
    make(world, OTHER, "data-bin/identifiers")
    assert DataBin(data).bundle.revision == 1
    build(world / "anew", make_codec(3), unique_size=32)  # other identifiers are meant to replace them
    make(world, OTHER, "anew")
    assert DataBin(data).bundle.revision == 0


def test_building_again_keeps_files_of_users(tmp_path):
    write_jsonl(tmp_path / "items.jsonl", [{"item_id": f"item {i}"} for i in range(30)])
    for seed in range(2):
        np.save(tmp_path / "embeddings.npy", embed(30, seed))
        build_identifiers(tmp_path / "embeddings.npy", tmp_path / "items.jsonl", tmp_path / "identifiers", QUICK)
        if not seed:
            add_strays(tmp_path / "identifiers")
            (tmp_path / "identifiers" / "segments").mkdir()
    assert_strays(tmp_path / "identifiers")
    assert not (tmp_path / "identifiers" / "segments").exists()


def test_what_is_kept_is_copied_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def without_links(*_: object, **__: object) -> None:
        raise PermissionError

    (tmp_path / "out").mkdir()
    add_strays(tmp_path / "out")
    monkeypatch.setattr(files.os, "link", without_links)
    with replacing(tmp_path / "out", directory=True, ours=OURS) as new:
        (new / "notes.txt").write_text("ours now")
    assert (tmp_path / "out" / "notes.txt").read_text() == "ours now"
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert_strays(tmp_path / "out")
