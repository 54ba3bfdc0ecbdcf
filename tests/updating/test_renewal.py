"""`update_identifiers --path` leaves nothing for a search to compute."""

import functools
import shutil

import numpy as np
import pytest
import torch
from changing import dense_world, new_items

from cart_fairseq import item_priors, renewing
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.item_priors import priors_of
from cart_fairseq.renewing import renewal
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.item_vectors import item_vectors
from cart_fairseq.tuning import SHARE_STATE, keep
from preprocess import update_identifiers


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = dense_world(tmp_path_factory.mktemp("renewal"))
    keep(root / "save" / "checkpoint_best.pt", {SHARE_STATE: 0.5})
    return root


def test_priors_follow_an_update(world, tmp_path, monkeypatch, capsys):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    data, path = tmp_path / "data-bin", world / "save" / "checkpoint_best.pt"
    left = data / "search" / ".vectors.0123456789abcdef.abcd1234.tmp"  # of a process that was killed
    left.mkdir(parents=True)
    embeddings, items = new_items(tmp_path / "new", 4)
    given = ["--embeddings", str(embeddings), "--items", str(items)]
    update_identifiers.main(["add", "--data-bin", str(data), *given, "--path", str(path)])
    assert "is up to date" in capsys.readouterr().out
    assert not left.exists()
    monkeypatch.setattr(item_priors, "item_priors", lambda *_: pytest.fail("priors are computed again"))
    retriever = CartRetriever.from_pretrained(path, data)
    assert retriever.search(["a dog"], k=3)[0]
    update_identifiers.main(["remove", "--data-bin", str(data), "--item-ids", "item 3"])
    with pytest.raises(pytest.fail.Exception):
        CartRetriever.from_pretrained(path, data).search(["a dog"])
    monkeypatch.undo()
    update_identifiers.main(["remove", "--data-bin", str(data), "--item-ids", "item 4", "--path", str(path)])
    monkeypatch.setattr(item_priors, "item_priors", lambda *_: pytest.fail("priors are computed again"))
    assert CartRetriever.from_pretrained(path, data).search(["a dog"], k=3)[0]


def test_a_bundle_alone_has_no_searches(world, tmp_path, capsys):
    shutil.copytree(world / "identifiers", tmp_path / "identifiers")
    with pytest.raises(SystemExit):
        update_identifiers.main(["compact", "--identifiers", str(tmp_path / "identifiers"), "--path", "some.pt"])
    assert "argument --path: a checkpoint searches a data-bin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "found"), [("none.pt", "no such checkpoint"), ("", "the path of the checkpoint is empty")]
)
def test_a_wrong_checkpoint_is_refused_before_the_update(world, tmp_path, path, found):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    with pytest.raises(ValueError, match=found):
        update_identifiers.main(
            ["remove", "--data-bin", str(tmp_path / "data-bin"), "--item-ids", "item 3", "--path", path]
        )
    assert DataBin(tmp_path / "data-bin").bundle.revision == 0


def test_what_is_stored_is_computed_without_dropout(world, tmp_path, monkeypatch):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    path, data = world / "save" / "checkpoint_best.pt", tmp_path / "data-bin"
    retriever = CartRetriever.from_pretrained(path, data, precision="float32")
    models, items = retriever.models, retriever.data.dense_items
    assert items is not None
    with torch.no_grad():
        vectors = item_vectors(models, items, torch.arange(len(items.embeddings)))
        priors = priors_of(models, retriever.data)
    monkeypatch.setattr(renewing, "store_vectors", functools.partial(renewing.store_vectors, exact_items=0))
    assert renewal(path, data)()
    (stored,) = (data / "search").glob("vectors.*/vectors.npy")
    np.testing.assert_allclose(np.load(stored), vectors, atol=1e-3)
    (stored,) = (data / "search").glob("priors.*/priors.npy")
    np.testing.assert_allclose(np.load(stored), priors, atol=1e-4)


def test_priors_of_models_in_training_have_no_dropout(world):
    retriever = CartRetriever.from_pretrained(world / "save" / "checkpoint_best.pt", world / "data-bin")
    expected = retriever.search(["a dog"], k=5)[0]
    other = CartRetriever.from_pretrained(world / "save" / "checkpoint_best.pt", world / "data-bin")
    for model in other.models:
        model.train()
    assert [hit.score for hit in other.search(["a dog"], k=5)[0]] == pytest.approx([hit.score for hit in expected])
