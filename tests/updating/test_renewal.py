"""`update_identifiers --path` leaves nothing for a search to compute."""

import functools
import re
import shlex
import shutil

import numpy as np
import pytest
import torch
from changing import dense_world, new_items

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.publishing import renewing
from cart_fairseq.publishing.renewing import renewal
from cart_fairseq.queries import item_priors
from cart_fairseq.queries.item_priors import priors_of
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.dense.item_vectors import item_vectors
from cart_fairseq.steps.tuning import SHARE_STATE, keep
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


def test_what_a_killed_renewal_left_undone_is_named_and_done_by_renew(world, tmp_path, monkeypatch, capsys):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    data, path = tmp_path / "data-bin", world / "save" / "checkpoint_best.pt"
    embeddings, items = new_items(tmp_path / "new", 4)
    add = ["add", "--data-bin", str(data), "--embeddings", str(embeddings), "--items", str(items), "--path", str(path)]
    remove = ["remove", "--data-bin", str(data), "--item-ids", "item 3", "--path", str(path)]
    for command, said in ((add, "is already in the catalogue"), (remove, "was removed from the catalogue")):
        with monkeypatch.context() as killed:
            killed.setattr(renewing, "store_priors", lambda *_: pytest.exit("killed"))
            with pytest.raises(pytest.exit.Exception):
                update_identifiers.main(command)
        again = f"finish it with python -m preprocess.update_identifiers renew --data-bin {data} --path {path}"
        with pytest.raises(ValueError, match=f"{said}.*{re.escape(again)}"):
            update_identifiers.main(command)
        with pytest.raises(ValueError, match=said) as plain:
            update_identifiers.main(command[:-2])
        assert "update_identifiers renew" not in str(plain.value)
        state = DataBin(data).bundle.state
        update_identifiers.main(shlex.split(again.split("update_identifiers ")[1]))
        assert "is up to date" in capsys.readouterr().out
        assert DataBin(data).bundle.state == state
        with monkeypatch.context() as watched:
            watched.setattr(item_priors, "item_priors", lambda *_: pytest.fail("priors are computed again"))
            assert CartRetriever.from_pretrained(path, data).search(["a dog"], k=3)[0]


def test_renew_says_by_its_exit_code_that_nothing_was_written(world, tmp_path, capsys):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    (tmp_path / "data-bin" / "search").symlink_to(tmp_path)
    given = ["--data-bin", str(tmp_path / "data-bin"), "--path", str(world / "save" / "checkpoint_best.pt")]
    with pytest.raises(SystemExit) as stopped:
        update_identifiers.main(["renew", *given])
    assert stopped.value.code == 2
    assert "search: is a link, and nothing is written through it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        update_identifiers.main(["renew", *given[:2]])
    assert "the following arguments are required: --path" in capsys.readouterr().err


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
