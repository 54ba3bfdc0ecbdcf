"""What follows in a data-bin when its catalogue is updated: subsets, candidates, features, and checkpoints that go on."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from changing import make_data_bin, new_items
from conftest import ITEMS, make_captions, make_model, setup_task
from fairseq.data import data_utils

from cart_fairseq.base.files import sha256
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.retriever import CartRetriever
from preprocess.data.roles import candidate_rows
from preprocess.data_bin.build import binarize
from preprocess.updating.steps import add, compact, remove

NEW = 7


@pytest.fixture
def data(tmp_path):
    return make_data_bin(tmp_path)


def check(path):
    """Everything in a data-bin agrees with its bundle."""
    data = DataBin(path)
    data.bundle.verify()
    assert data.directory == path
    present = {p.name for p in path.iterdir()}
    assert present == {*data.manifest["files"], "manifest.json", "identifiers", "candidates.mine.npy"}
    for name, entry in data.manifest["files"].items():
        assert entry == {"sha256": sha256(path / name), "bytes": (path / name).stat().st_size}
    kept = data.bundle.kept
    assert np.load(path / "candidates.all.npy").tolist() == kept.tolist()
    assert sorted(data.trie.rows.tolist()) == kept.tolist()
    for subset in ("valid", "test"):
        rows = candidate_rows(data.bundle.splits, subset, False, data.bundle.removed)
        np.testing.assert_array_equal(data.candidates(subset), rows)
        assert data.manifest["counts"][subset]["candidates"] == len(rows)
    for subset, count in data.manifest["counts"].items():
        table = pq.read_table(path / f"queries.{subset}.parquet").to_pylist()
        identifiers = data_utils.load_indexed_dataset(str(path / f"{subset}.query-id.id"), None)
        queries = data_utils.load_indexed_dataset(str(path / f"{subset}.query-id.query"), None)
        assert len(table) == len(identifiers) == len(queries) == count["queries"]
        for row, target in zip(table, identifiers, strict=True):
            assert row["query_id"].split("#")[0] == data.bundle.item_id(row["item_row"]).split()[1]
            assert target.tolist()[:-1] == (data.bundle.values[row["item_row"]] + data.bundle.offsets).tolist()
    return data


def test_a_data_bin_follows_and_its_checkpoint_goes_on(data, tmp_path):
    model = make_model(setup_task(data))
    texts = ["red dog", "old tree"]
    add(data, *new_items(tmp_path / "new"))
    check(data)
    remove(data, ["item 4", "item 5", "new 1"])
    after = check(data)
    assert np.load(data / "candidates.mine.npy").tolist() == [1, 9]
    task = setup_task(data)
    other = make_model(task, seed=1)
    other.load_state_dict(model.state_dict())  # refuses other identifiers
    retriever = CartRetriever([other], task.data)
    for hits in retriever.search(texts, k=50):
        assert sorted(hit.item_id for hit in hits) == sorted(after.bundle.item_id(row) for row in after.bundle.kept)
    for hits in retriever.search(texts, k=50, candidates="valid"):
        assert {hit.item_id for hit in hits} == {
            "item 1",
            *(f"item {i}" for i in range(7, 24, 3)),
            "new 2",
            "new 5",
            "new 6",
        }
    with pytest.raises(ValueError, match="item 'new 1' was removed from the catalogue"):
        retriever.search(texts, candidates=["item 1", "new 1"])
    with pytest.raises(ValueError, match="item 'item 4' was removed"):
        after.candidate_set(np.array([1, 4]))


def test_queries_of_removed_items_leave_the_subsets_and_rows_follow_compact(data, tmp_path):
    wanted = {subset: table_of(data, subset) for subset in ("train", "valid", "test")}
    gone = ["item 0", "item 7", "item 8"]
    add(data, *new_items(tmp_path / "new"))
    remove(data, gone)
    check(data)
    compact(data)
    after = check(data)
    assert len(after.bundle) == ITEMS + NEW - 3
    assert np.load(data / "candidates.mine.npy").tolist() == [0, 4, 6]
    for subset, rows in wanted.items():
        assert table_of(data, subset) == [row for row in rows if row[1] not in gone]


def table_of(path, subset):
    bundle = DataBin(path).bundle
    rows = pq.read_table(path / f"queries.{subset}.parquet").to_pylist()
    return [(row["query_id"], bundle.item_id(row["item_row"]), row["text"], row["role"]) for row in rows]


def test_a_subset_without_queries_goes(data):
    remove(data, [f"item {i}" for i in range(1, ITEMS, 3)])
    assert set(DataBin(data).manifest["counts"]) == {"train", "test"}
    assert not list(data.glob("valid.*"))
    assert not (data / "queries.valid.parquet").exists()


def test_the_bundle_of_a_data_bin_is_updated_through_the_data_bin(data, tmp_path):
    with pytest.raises(ValueError, match=r"belongs to the data-bin .* update that with --data-bin"):
        compact(data / "identifiers")


def test_binarize_reads_an_updated_bundle_and_another_data_bins_vocabulary(data, tmp_path):
    add(data, *new_items(tmp_path / "new"))
    remove(data, ["item 4"])
    captions = make_captions(tmp_path / "more.jsonl")
    rows = [{"item_id": "new 0", "text": "entirely unseen words", "role": "index"}]
    captions.write_text(captions.read_text() + "".join(json.dumps(row) + "\n" for row in rows))
    made = binarize(data / "identifiers", captions, tmp_path / "more", vocabulary_from=data)
    assert "4 captions of removed items were left out" in made.summary
    old, more = DataBin(data), DataBin(tmp_path / "more")
    assert (old.fingerprint, old.bundle.state) == (more.fingerprint, more.bundle.state)
    assert sha256(data / "dict.query.txt") == sha256(tmp_path / "more" / "dict.query.txt")
    assert ("new 0", "entirely unseen words") in [row[1:3] for row in table_of(tmp_path / "more", "train")]
    np.testing.assert_array_equal(more.candidates("all"), old.bundle.kept)
    assert len(more.trie) == len(old.trie)
    assert not binarize(data / "identifiers", captions, tmp_path / "more", vocabulary_from=data).is_new
