"""A bundle knows when each item came, and a checkpoint which items it was trained on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from changing import build, dense_world, embed, make_codec, new_items
from commands import run, train_flags

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.candidates import BatchCandidates, CandidateSet
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.queries.item_priors import priors_of, store_priors
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.dense.younger import known_items
from preprocess.data_bin.build import binarize
from preprocess.updating.steps import add, compact, remove


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return dense_world(tmp_path_factory.mktemp("ages"))


def add_new(target, folder, count=4, seed=5, first=0):
    return add(target, *new_items(folder, count, seed, first)).bundle


def test_ages_follow_every_update(tmp_path):
    built = build(tmp_path / "identifiers", make_codec(), unique_size=32)
    items = len(built)
    assert built.ages == [(0, items)]
    assert built.items_at(0) == items
    add_new(tmp_path / "identifiers", tmp_path / "first", 4)
    bundle = add_new(tmp_path / "identifiers", tmp_path / "second", 3, 6, first=4)
    assert bundle.ages == [(0, items), (1, 4), (2, 3)]
    bundle = remove(tmp_path / "identifiers", ["item 0", "item 1", "new 2", "new 4", "new 5", "new 6"]).bundle
    assert [bundle.items_at(revision) for revision in range(4)] == [items, items + 4, items + 7, items + 7]
    bundle = compact(tmp_path / "identifiers").bundle
    assert bundle.ages == [(0, items - 2), (1, 3)]
    assert [bundle.item_id(row) for row in range(bundle.items_at(0), len(bundle))] == ["new 0", "new 1", "new 3"]
    assert add_new(tmp_path / "identifiers", tmp_path / "third", 2, 7, first=9).ages[-1] == (5, 2)


def test_ages_of_a_manifest_of_before_follow_from_its_parts(tmp_path):
    items = len(build(tmp_path / "identifiers", make_codec(), unique_size=32))
    add_new(tmp_path / "identifiers", tmp_path / "first", 4)
    path = tmp_path / "identifiers" / "manifest.json"
    manifest = read_json(path)
    del manifest["ages"]
    write_json(path, manifest)
    assert IdentifierBundle.load(path.parent).ages == [(0, items), (1, 4)]


@pytest.mark.parametrize("ages", [[[0, 5]], [[1, 2], [0, 30]], [[0, -1], [1, 33]], [[0]], "x", 7, [["a", 32]], None])
def test_damaged_ages_are_refused(tmp_path, ages):
    build(tmp_path / "identifiers", make_codec(), unique_size=32)
    path = tmp_path / "identifiers" / "manifest.json"
    write_json(path, {**json.loads(path.read_text()), "ages": ages})
    with pytest.raises(CatalogueError, match=r"manifest\.json: damaged"):
        IdentifierBundle.load(path.parent)


def found_by(retriever, text, k=60):
    return {hit.item_id: hit.score for hit in retriever.search([text], k=k)[0]}


def test_an_added_item_is_ranked_by_its_dense_score_until_the_model_is_trained_on_it(world, tmp_path):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    shutil.copy(world / "save" / "checkpoint_best.pt", tmp_path / "model.pt")
    data_bin, text = tmp_path / "data-bin", "a dog runs"
    before = found_by(CartRetriever.from_pretrained(tmp_path / "model.pt", data_bin), text)
    embeddings, items = new_items(tmp_path / "new", 4)
    add(data_bin, embeddings, items)
    retriever = CartRetriever.from_pretrained(tmp_path / "model.pt", data_bin)
    assert retriever.models[0].revision == 0
    after = found_by(retriever, text)
    assert after.keys() - before.keys() == {"new 0", "new 1", "new 2", "new 3"}
    for item_id, score in before.items():  # renormalised among all of them, the older items would lose
        assert after[item_id] == pytest.approx(score, abs=1e-4)
    dense, features = retriever.models[0].dense, retriever.data.dense_items
    assert dense is not None
    assert features is not None
    rows = torch.arange(len(before), len(after))
    with torch.no_grad():
        vectors = dense.item(features.features(rows.numpy()))
        query = found_vector(retriever, text)
        scores = (vectors @ query * dense.scale() * float(dense.weight)).tolist()
    gaps = [after[f"new {place}"] - score for place, score in enumerate(scores)]
    assert np.ptp(gaps) < 1e-4
    compact(data_bin)
    assert found_by(CartRetriever.from_pretrained(tmp_path / "model.pt", data_bin), text) == pytest.approx(
        after, abs=1e-4
    )


def test_a_search_copies_no_identifiers_priors_or_candidates_of_the_catalogue(world, tmp_path):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    shutil.copy(world / "save" / "checkpoint_best.pt", tmp_path / "model.pt")
    add(tmp_path / "data-bin", *new_items(tmp_path / "new", 4))
    trained = CartRetriever.from_pretrained(tmp_path / "model.pt", tmp_path / "data-bin")
    store_priors(trained.models, trained.data)
    retriever = CartRetriever.from_pretrained(tmp_path / "model.pt", tmp_path / "data-bin", prior_share=0.5)
    data = retriever.data
    assert retriever.search(["a dog runs"], candidates=["new 0", "item 1"])[0]
    assert retriever.search(["a dog runs"])[0]
    assert len(data.bundle.parts) == 2
    assert "values" not in vars(data.bundle)  # which joins the parts in memory
    assert mapped_file(priors_of(retriever.models, data)).name == "priors.npy"
    younger = CandidateSet(torch.arange(3))
    keys = BatchCandidates(data.trie, younger, 5, retriever.device).keys
    assert keys is not None
    assert keys.data_ptr() == younger.leaves.data_ptr()


def mapped_file(tensor):
    """The file whose mapping holds a tensor; a path without a name if there is none."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, *_, path = line.split()
        begin, end = (int(each, 16) for each in addresses.split("-"))
        if begin <= tensor.data_ptr() < end:
            return Path(path)
    return Path()


def found_vector(retriever, text):
    """The query's unit vector."""
    source = torch.as_tensor(retriever.codec.symbols(text)).unsqueeze(0)
    return retriever.models[0].dense.query(retriever.models[0].encoder(source, torch.tensor([source.size(1)])))[0]


def test_training_on_an_updated_bundle_makes_its_items_known(world, tmp_path):
    shutil.copytree(world / "identifiers", tmp_path / "identifiers")
    items = len(add_new(tmp_path / "identifiers", tmp_path / "new", 4))
    joined = np.concatenate([np.load(world / "embeddings.npy"), embed(4, 5)])
    np.save(tmp_path / "embeddings.npy", joined)
    binarize(
        tmp_path / "identifiers", world / "captions.jsonl", tmp_path / "bin", embeddings=tmp_path / "embeddings.npy"
    )
    assert DataBin(tmp_path / "bin").manifest["revision"] == 1
    run(*train_flags(tmp_path / "bin", tmp_path / "save", "--max-epoch", 1, "--dense-dim", 8))
    retriever = CartRetriever.from_pretrained(tmp_path / "save" / "checkpoint_best.pt", tmp_path / "bin")
    assert retriever.models[0].revision == 1
    assert retriever.data.bundle.items_at(1) == items
    add(tmp_path / "bin", *new_items(tmp_path / "more", 2, 8, first=9))
    assert DataBin(tmp_path / "bin").manifest["revision"] == 1
    assert DataBin(tmp_path / "bin").bundle.items_at(1) == items


@pytest.mark.parametrize(("flags", "revision"), [((), 0), (("--know-added-items",), 1)])
def test_a_model_that_is_trained_further_keeps_what_it_knows_unless_told(world, tmp_path, flags, revision):
    shutil.copytree(world / "identifiers", tmp_path / "identifiers")
    add_new(tmp_path / "identifiers", tmp_path / "new", 4)
    np.save(tmp_path / "embeddings.npy", np.concatenate([np.load(world / "embeddings.npy"), embed(4, 5)]))
    binarize(
        tmp_path / "identifiers",
        world / "captions.jsonl",
        tmp_path / "bin",
        embeddings=tmp_path / "embeddings.npy",
        vocabulary_from=world / "data-bin",
    )
    begin = ("--finetune-from-model", world / "save" / "checkpoint_last.pt")
    run(*train_flags(tmp_path / "bin", tmp_path / "save", "--max-epoch", 1, "--dense-dim", 8, *begin, *flags))
    retriever = CartRetriever.from_pretrained(tmp_path / "save" / "checkpoint_last.pt", tmp_path / "bin")
    assert retriever.models[0].revision == revision


def test_copies_of_a_bundle_with_other_additions_have_other_histories(tmp_path):
    built = build(tmp_path / "one", make_codec(), unique_size=32)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    remove(tmp_path / "two", ["item 3"])
    assert IdentifierBundle.load(tmp_path / "two").history == built.history == built.fingerprint[:16]
    common = add_new(tmp_path / "one", tmp_path / "first", 4)
    assert add_new(tmp_path / "two", tmp_path / "first", 4).history == common.history != built.history
    one = add_new(tmp_path / "one", tmp_path / "second", 3, 6, first=4)
    two = add_new(tmp_path / "two", tmp_path / "third", 2, 7, first=40)
    assert one.history != two.history
    items = len(built)
    assert known_items(one, one.revision, one.history) == items + 7
    assert known_items(two, two.revision, two.history) == items + 6
    assert known_items(two, one.revision, one.history) == items  # by its number, the revision would know all
    assert known_items(two, 9, common.history) == items + 4  # the last additions that both have
    assert known_items(two, 9, built.history) == items
    assert known_items(two, two.revision, "") == items + 6  # a checkpoint of before
    assert compact(tmp_path / "two").bundle.history == two.history
    assert known_items(IdentifierBundle.load(tmp_path / "two"), two.revision, two.history) == items + 5


def test_additions_to_a_bundle_of_before_continue_without_their_history(tmp_path):
    items = len(build(tmp_path / "identifiers", make_codec(), unique_size=32))
    add_new(tmp_path / "identifiers", tmp_path / "first", 4)
    path = tmp_path / "identifiers" / "manifest.json"
    manifest = read_json(path)
    del manifest["histories"]
    write_json(path, manifest)
    before = IdentifierBundle.load(path.parent)
    assert before.history == ""
    assert known_items(before, 1, before.history) == items + 4
    after = add_new(tmp_path / "identifiers", tmp_path / "second", 3, 6, first=4)
    assert known_items(after, 1, before.history) == items + 4
    assert known_items(after, 2, after.history) == items + 7


@pytest.mark.parametrize("histories", [{"1": "x"}, {"a": "0" * 16}, {"1": 7}, ["0" * 16], "0" * 16])
def test_damaged_histories_are_refused(tmp_path, histories):
    build(tmp_path / "identifiers", make_codec(), unique_size=32)
    path = tmp_path / "identifiers" / "manifest.json"
    write_json(path, {**json.loads(path.read_text()), "histories": histories})
    with pytest.raises(CatalogueError, match=r"manifest\.json: damaged"):
        IdentifierBundle.load(path.parent)


def test_a_model_knows_what_it_was_trained_on_not_what_a_copy_has_of_the_same_number(world, tmp_path):
    shutil.copytree(world / "identifiers", tmp_path / "one")
    shutil.copytree(world / "identifiers", tmp_path / "two")
    add_new(tmp_path / "one", tmp_path / "first", 4)
    add_new(tmp_path / "two", tmp_path / "second", 4, 6, first=40)
    for name, seed in (("one", 5), ("two", 6)):
        joined = np.concatenate([np.load(world / "embeddings.npy"), embed(4, seed)])
        np.save(tmp_path / f"{name}.npy", joined)
        binarize(
            tmp_path / name, world / "captions.jsonl", tmp_path / f"{name}-bin", embeddings=tmp_path / f"{name}.npy"
        )
    run(*train_flags(tmp_path / "one-bin", tmp_path / "save", "--max-epoch", 1, "--dense-dim", 8))
    path = tmp_path / "save" / "checkpoint_best.pt"
    known = CartRetriever.from_pretrained(path, tmp_path / "one-bin")
    assert known.models[0].history == known.data.bundle.history
    other = CartRetriever.from_pretrained(path, tmp_path / "two-bin")
    assert other.models[0].revision == other.data.bundle.revision == 1
    assert known._generator(5).ages is None
    ages = other._generator(5).ages
    assert ages is not None
    assert ages.known_items == other.data.bundle.items_at(0)
