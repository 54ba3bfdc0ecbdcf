"""The priors of a data-bin's items: equal to a slow computation, stored or not, after updates, and in every search."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from changing import dense_world
from conftest import ITEMS

from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.queries import item_priors
from cart_fairseq.queries.item_priors import prior_bias, priors_of, store_priors
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.dense.stored_statistics import store_statistics
from preprocess.api import compact, remove


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return dense_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def opened(world, tmp_path):
    """A retriever on a copy of the data-bin."""
    shutil.copytree(world / "data-bin", tmp_path / "data-bin")
    return CartRetriever.from_pretrained(world / "save" / "checkpoint_best.pt", data=tmp_path / "data-bin")


def slow_priors(retriever):
    """Priors in double precision, from the training captions one by one."""
    (model,), data = retriever.models, retriever.data
    table = data.queries("train").to_pylist()
    known = [row for row in table if row["role"] == "train"]
    items = model.dense.item(data.dense_items.features(np.arange(len(data.bundle)))).double()
    scores = []
    for row in known:
        symbols = retriever.codec.symbols(row["text"]).unsqueeze(0)
        query = model.dense.query(model.encoder(symbols, torch.tensor([symbols.size(1)])))[0].double()
        scores.append(items @ query * float(model.dense.scale()))
    found = []
    for item in range(len(items)):
        others = torch.stack([s[item] for s, row in zip(scores, known, strict=True) if row["item_row"] != item])
        found.append(float(others.logsumexp(0) - np.log(len(others))))
    return found


@torch.no_grad()
def test_priors_equal_a_slow_computation(opened):
    assert priors_of(opened.models, opened.data).tolist() == pytest.approx(slow_priors(opened), abs=1e-4)


def test_the_share_scales_the_bias_and_none_is_needed_without(opened):
    priors = priors_of(opened.models, opened.data)
    half = prior_bias(opened.models, opened.data, 0.5)
    assert half is not None
    assert torch.equal(half, -0.5 * priors)
    assert prior_bias(opened.models, opened.data, 0.5) is half
    assert prior_bias(opened.models, opened.data, 0.0) is None
    assert prior_bias(opened.models, opened.data) is None  # the model's own share
    opened.models[0].dense.prior_share.fill_(0.25)
    own = prior_bias(opened.models, opened.data)
    assert own is not None
    assert torch.equal(own, -0.25 * priors)


def test_stored_priors_are_opened_and_equal(opened, world, monkeypatch):
    expected = priors_of(opened.models, opened.data)
    store_priors(opened.models, opened.data)
    folder = opened.data.directory / "search"
    assert sorted(path.name.split(".")[0] for path in folder.iterdir()) == ["priors", "queries"]
    monkeypatch.setattr(item_priors, "_compute_bank", lambda *_: pytest.fail("the stored queries are not used"))
    again = CartRetriever.from_pretrained(world / "save" / "checkpoint_best.pt", data=opened.data.directory)
    assert torch.equal(priors_of(again.models, again.data), expected)
    # after updates the same queries give the priors of what is there
    remove(opened.data.directory, [again.data.bundle.item_id(3)])
    others = torch.arange(len(expected)) != 3
    for step in (None, compact):
        if step is not None:
            step(opened.data.directory)
        updated = CartRetriever.from_pretrained(world / "save" / "checkpoint_best.pt", data=opened.data.directory)
        found = priors_of(updated.models, updated.data)
        if step is None:
            assert found[3] == 0
            found = found[others]
        torch.testing.assert_close(found, expected[others])


def test_stored_priors_that_may_not_be_read_are_computed(opened, world, monkeypatch, caplog):
    expected = priors_of(opened.models, opened.data)
    store_priors(opened.models, opened.data)
    (denied,) = (opened.data.directory / "search").glob("priors.*/priors.npy")
    denied.write_bytes(b"x")
    inner = Path.open

    def opened_by_another(path, *options, **named):
        if path == denied:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return inner(path, *options, **named)

    monkeypatch.setattr(Path, "open", opened_by_another)
    again = CartRetriever.from_pretrained(world / "save" / "checkpoint_best.pt", data=opened.data.directory)
    torch.testing.assert_close(priors_of(again.models, again.data), expected)
    assert f"{denied}: may not be read" in caplog.text


@torch.no_grad()
def test_the_priors_of_an_ensemble_are_of_the_score_that_it_searches_by(opened, world):
    first, second = (
        CartRetriever.from_pretrained(world / "save" / "checkpoint_best.pt", data=opened.data.directory).models[0]
        for _ in range(2)
    )
    assert first.dense is not None
    assert second.dense is not None
    first.dense.query_tower.straight.weight.mul_(-1)
    first.dense.weight.fill_(0.0)
    second.dense.weight.fill_(4.0)
    alone = priors_of([second], opened.data)
    torch.testing.assert_close(priors_of([first, second], opened.data), alone)
    for weight in (1.0, 2.0):  # given to both, so both count
        assert not torch.allclose(priors_of([first, second], opened.data, weight), alone, atol=0.1)
    store_priors([first, second], opened.data)
    bias = prior_bias([first, second], opened.data, 1.0)
    assert bias is not None
    everything = [
        CartRetriever([first, second], opened.data, ITEMS, prior_share=share).search(["red cat"], k=ITEMS)[0]
        for share in (0.0, 1.0)
    ]
    without, found = ({hit.row: hit.score for hit in hits} for hits in everything)
    assert found == {row: pytest.approx(score + 2.0 * float(bias[row]), abs=1e-4) for row, score in without.items()}


@torch.no_grad()
def test_priors_are_computed_anew_when_queries_have_other_vectors(opened):
    before = priors_of(opened.models, opened.data)
    opened.models[0].dense.query_tower.straight.weight.mul_(2)  # the item tower is as it was
    after = priors_of(opened.models, opened.data)
    assert not torch.equal(after, before)
    assert after.tolist() == pytest.approx(slow_priors(opened), abs=1e-4)
    assert prior_bias(opened.models, opened.data, 0.5) is prior_bias(opened.models, opened.data, 0.5)


def test_queries_are_encoded_once_for_priors_and_their_store(opened, monkeypatch):
    priors_of(opened.models, opened.data)
    monkeypatch.setattr(item_priors, "_compute_bank", lambda *_: pytest.fail("the queries are encoded again"))
    store_priors(opened.models, opened.data)
    assert len(list((opened.data.directory / "search").iterdir())) == 2


@pytest.mark.parametrize("wrong", [np.zeros(3, np.float32), np.full(ITEMS, np.nan, np.float32), np.zeros(ITEMS)])
def test_priors_of_something_else_are_refused(opened, world, wrong):
    store_priors(opened.models, opened.data)
    (folder,) = (opened.data.directory / "search").glob("priors.*")
    np.save(folder / "priors.npy", wrong)
    again = CartRetriever.from_pretrained(world / "save" / "checkpoint_best.pt", data=opened.data.directory)
    with pytest.raises(CatalogueError, match=r"priors\.npy: holds .*; remove the folder"):
        priors_of(again.models, again.data)


@pytest.mark.parametrize("content", [b"x", b""])
def test_damaged_priors_are_named(opened, world, content):
    store_priors(opened.models, opened.data)
    (folder,) = (opened.data.directory / "search").glob("priors.*")
    (folder / "priors.npy").write_bytes(content)
    again = CartRetriever.from_pretrained(
        world / "save" / "checkpoint_best.pt", data=opened.data.directory, prior_share=0.5
    )
    with pytest.raises(ValueError, match=r"priors\.npy: missing or damaged .*update_identifiers renew makes it again"):
        again.search(["red cat"])


@pytest.mark.parametrize("lookahead", [True, False])
def test_a_search_subtracts_the_share_of_the_prior_from_the_dense_score(opened, lookahead):
    everything = ITEMS
    plain, biased = (
        CartRetriever(opened.models, opened.data, everything, prior_share=share, lookahead=lookahead, dense_weight=2.0)
        for share in (0.0, 0.75)
    )
    before = {hit.item_id: hit.score for hit in plain.search(["red cat"], k=everything)[0]}
    after = {hit.item_id: hit.score for hit in biased.search(["red cat"], k=everything)[0]}
    priors = priors_of(opened.models, opened.data)
    rows = {opened.data.bundle.item_id(row): row for row in range(len(opened.data.bundle))}
    assert before.keys() == after.keys()
    for item, score in before.items():
        assert after[item] == pytest.approx(score - 2.0 * 0.75 * float(priors[rows[item]]), abs=1e-3)
    without = CartRetriever(opened.models, opened.data, everything, prior_share=0.75, dense_weight=0)
    alone = CartRetriever(opened.models, opened.data, everything, dense_weight=0)
    assert without.search(["red cat"]) == alone.search(["red cat"])


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), "1"])
def test_a_share_out_of_range_is_refused(opened, share):
    with pytest.raises(ValueError, match=r"--prior-share is .*; it must be in \[0, 1\]"):
        CartRetriever(opened.models, opened.data, prior_share=share)


def test_nothing_is_written_through_a_link(opened, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (opened.data.directory / "search").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link, and nothing is written through it"):
        store_priors(opened.models, opened.data)
    with pytest.raises(OSError, match="is a link, and nothing is written through it"):
        store_statistics(opened.models, opened.data, exact_items=0)
    assert not [*(tmp_path / "elsewhere").iterdir()]
