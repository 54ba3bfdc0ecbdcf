"""Files of earlier versions (README.md) open, give the same hits, and can be updated."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import validate
from conftest import write_jsonl
from old_catalogue import ITEMS, NEW, QUERIES, embeddings, formula_codec
from record import SEARCHES, hits

from cart_fairseq import CartRetriever
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.positions import Position
from preprocess import join_captions, update_identifiers
from preprocess.identifiers.codec import restore_codec
from preprocess.identifiers.schemes.named import SCHEMES

HERE = Path(__file__).resolve().parent
RECORDED: dict[str, list[list[tuple[str, float]]]] = json.loads((HERE / "hits.json").read_text())
FACTS: dict[str, Any] = json.loads((HERE / "bundles.json").read_text())
BUNDLES = ["plain/data-bin/identifiers", "dense/data-bin/identifiers", "atomic", "structured"]


def assert_same_hits(found: list[list[tuple[str, float]]], name: str) -> None:
    """The recorded ids in their order, the scores to 1e-5."""
    assert len(RECORDED[name]) == len(QUERIES)
    for query, row, expected in zip(QUERIES, found, RECORDED[name], strict=True):
        assert [item for item, _ in row] == [item for item, _ in expected], query
        np.testing.assert_allclose([s for _, s in row], [s for _, s in expected], atol=1e-5, rtol=1e-5, err_msg=query)


@pytest.mark.parametrize("name", SEARCHES)
def test_old_checkpoints_find_what_they_found(name):
    assert_same_hits(hits(HERE, name), name)


@pytest.mark.parametrize("name", [name for name in SEARCHES if name.startswith("dense")])
def test_an_old_model_folder_finds_what_its_checkpoint_found(name):
    options = {"beam": ITEMS, "precision": "float32", "device": "cpu", **SEARCHES[name]}
    found = CartRetriever.from_pretrained(HERE / "model", **options).search(QUERIES, k=10)
    assert_same_hits([[(hit.item_id, hit.score) for hit in row] for row in found], name)


def test_fairseq_validate_measures_an_old_checkpoint_as_it_was_measured():
    found = validate(HERE / "plain" / "data-bin", HERE / "plain.pt")
    assert found == {"recall_at_1": 93.75, "recall_at_5": 100, "recall_at_10": 100, "mrr_at_10": 96.88}


@pytest.mark.parametrize("name", BUNDLES)
def test_old_bundles_are_whole_and_have_the_fingerprint_that_checkpoints_remember(name):
    bundle = IdentifierBundle.load(HERE / name)
    bundle.verify()
    assert {"fingerprint": bundle.fingerprint, "state": bundle.state} == FACTS["bundles"][name]
    assert bundle.item_ids == [f"item {i}" for i in range(ITEMS)]


def test_a_codec_of_old_tensors_gives_the_old_codes_and_the_same_tensors():
    tensors = formula_codec()
    codec = restore_codec(SCHEMES["coarse-fine"], tensors, [Position("k", 4), Position("v1", 5), Position("v2", 5)])
    np.testing.assert_array_equal(codec.encode(embeddings()), FACTS["formula_codes"])
    again = codec.tensors()
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again[name], tensor, err_msg=name)
        assert again[name].dtype == tensor.dtype


def new_items(folder: Path, joined: bool) -> list[str]:
    """Files of the new items, as flags of `add`; rows of an earlier join where the catalogue has them."""
    folder.mkdir()
    np.save(folder / "embeddings.npy", embeddings(seed=1, items=len(NEW)))
    items = write_jsonl(folder / "items.jsonl", NEW)
    rows = folder / "embeddings.npy"
    if joined:
        texts = [{"item_id": "new 0", "text": "a red dog", "role": "index"}]
        captions = write_jsonl(folder / "captions.jsonl", texts)
        flags = ["--items", items, "--captions", captions, "--like", HERE / "joined", "--output", folder / "joined"]
        join_captions.main([str(flag) for flag in ["--embeddings", rows, *flags]])
        rows = folder / "joined"
    return ["--embeddings", str(rows), "--items", str(items)]


@pytest.mark.parametrize("model", ["plain", "dense"])
def test_an_old_data_bin_is_updated_and_its_checkpoint_goes_on(model, tmp_path):
    data = tmp_path / model / "data-bin"
    shutil.copytree(HERE / model / "data-bin", data)
    shutil.copy(HERE / f"{model}.pt", tmp_path)
    target, new = ["--data-bin", str(data)], [item["item_id"] for item in NEW]
    update_identifiers.main(["add", *target, *new_items(tmp_path / "new", model == "dense")])
    retriever = CartRetriever.from_pretrained(tmp_path / f"{model}.pt", data=data, beam=ITEMS + len(NEW), device="cpu")
    found = retriever.search(QUERIES, k=ITEMS + len(NEW))
    # scores are over all symbols, so those of the old items are what they were
    old = [[(hit.item_id, hit.score) for hit in row if hit.item_id not in new][:10] for row in found]
    assert_same_hits(old, f"{model}, masked")
    assert all({*new} <= {hit.item_id for hit in row} for row in found)
    update_identifiers.main(["remove", *target, "--item-ids", *new])
    assert_same_hits(hits(tmp_path, f"{model}, masked"), f"{model}, masked")
    update_identifiers.main(["compact", *target])
    assert_same_hits(hits(tmp_path, f"{model}, masked"), f"{model}, masked")


@pytest.mark.parametrize("name", ["atomic", "structured"])
def test_an_old_bundle_takes_new_items(name, tmp_path):
    shutil.copytree(HERE / name, tmp_path / name)
    before = IdentifierBundle.load(tmp_path / name)
    update_identifiers.main(["add", "--identifiers", str(tmp_path / name), *new_items(tmp_path / "new", joined=False)])
    after = IdentifierBundle.load(tmp_path / name)
    after.verify()
    np.testing.assert_array_equal(after.values[:ITEMS], before.values)
    assert after.item_ids[ITEMS:] == [item["item_id"] for item in NEW]
    assert len(np.unique(after.values, axis=0)) == ITEMS + len(NEW)
