"""Stored item vectors give the same ranking as the item towers, which then have nothing to do."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_lookahead import hybrid_model
from test_prefix_statistics import SIZES, catalogue, dense_items
from test_search_properties import model_for, queries, whole

from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.search.dense import stored_vectors
from cart_fairseq.search.dense.stored_arrays import STORED
from cart_fairseq.search.dense.stored_statistics import store_statistics
from cart_fairseq.search.dense.stored_vectors import store_vectors, vectors_of
from cart_fairseq.search.generator import IdentifierGenerator


def searched(model, trie, items):
    generator = IdentifierGenerator([model], whole(trie), 2, 20, dense=items)
    generator.exact_items = 0
    return generator.search(queries(4, 0), trie)


def test_a_search_reads_stored_vectors(tmp_path, monkeypatch):
    trie, items, model = catalogue(90), dense_items(tmp_path, 90), hybrid_model(SIZES, 0)
    expected = searched(model, trie, items)
    data: Any = SimpleNamespace(dense_items=items, trie=trie)
    assert store_vectors([model], data) is None  # so few vectors are kept in memory
    folder = store_vectors([model], data, exact_items=0)
    assert folder is not None
    assert folder.parent == tmp_path / STORED
    store_statistics([model], data, exact_items=0)
    with monkeypatch.context() as patched:
        patched.setattr(stored_vectors, "item_vectors", lambda *_: pytest.fail("vectors are computed again"))
        fresh = dense_items(tmp_path, 90)
        data = SimpleNamespace(dense_items=fresh, trie=trie)
        assert store_vectors([model], data, exact_items=0) == folder
        found = searched(model, trie, fresh)
    torch.testing.assert_close(found.scores, expected.scores, atol=0.02, rtol=0)
    assert (found.rows == expected.rows).float().mean() > 0.95


def test_vectors_of_other_weights_are_not_read(tmp_path):
    trie, items = catalogue(90), dense_items(tmp_path, 90)
    data: Any = SimpleNamespace(dense_items=items, trie=trie)
    store_vectors([hybrid_model(SIZES, 0)], data, exact_items=0)
    other = hybrid_model(SIZES, 1)
    found = vectors_of([other], items, tmp_path / STORED)(torch.arange(5))
    expected = other.dense.item(items.features(np.arange(5)))
    torch.testing.assert_close(found, expected)


def test_damaged_vectors_are_named(tmp_path):
    trie, items, model = catalogue(90), dense_items(tmp_path, 90), hybrid_model(SIZES, 0)
    data: Any = SimpleNamespace(dense_items=items, trie=trie)
    folder = store_vectors([model], data, exact_items=0)
    assert folder is not None
    np.save(folder / "vectors.npy", np.zeros((3, 2), np.float16))
    with pytest.raises(CatalogueError, match=r"vectors\.npy: holds float16 of shape \(3, 2\); remove the folder"):
        vectors_of([model], items, tmp_path / STORED)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_no_numbers_are_named_when_they_are_read(tmp_path, value):
    trie, items, model = catalogue(90), dense_items(tmp_path, 90), hybrid_model(SIZES, 0)
    data: Any = SimpleNamespace(dense_items=items, trie=trie)
    folder = store_vectors([model], data, exact_items=0)
    assert folder is not None
    vectors = np.load(folder / "vectors.npy")
    vectors[6, 0] = np.finfo(np.float16).max
    vectors[7, 0] = value
    np.save(folder / "vectors.npy", vectors)
    read = vectors_of([model], items, tmp_path / STORED)
    read(torch.arange(7))
    with pytest.raises(CatalogueError, match=r"vectors\.npy: holds NaN or infinite values; remove the folder"):
        read(torch.tensor([3, 7]))


def test_a_model_without_a_dense_head_has_none(tmp_path):
    from cart_fairseq.publishing.renewing import store_search_files

    data: Any = SimpleNamespace(dense_items=dense_items(tmp_path, 90), trie=catalogue(90))
    assert store_search_files([model_for(SIZES, 0)], data)
    assert not (tmp_path / STORED).exists()
