"""Estimated masses: exact where a prefix has few distinct items, near elsewhere; leaves, files and cost."""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_lookahead import hybrid_model
from test_search_properties import LargestTensor, model_for, offsets_of, queries, whole

from cart_fairseq.base.settings import SCORINGS
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.dense import prefix_statistics, stored_statistics
from cart_fairseq.search.dense.item_vectors import item_vectors
from cart_fairseq.search.dense.prefix_clusters import CLUSTERS
from cart_fairseq.search.dense.prefix_mass import PrefixMass
from cart_fairseq.search.dense.prefix_statistics import PrefixStatistics, compute_statistics
from cart_fairseq.search.dense.stored_arrays import STORED
from cart_fairseq.search.dense.stored_statistics import statistics_key, store_statistics
from cart_fairseq.search.generator import IdentifierGenerator

SIZES = [3, 5, 40]
FULL = [16] * 4


def catalogue(items: int, seed: int = 0) -> IdentifierTrie:
    rng = np.random.default_rng(seed)
    chosen = rng.choice(int(np.prod(SIZES)), items, replace=False)
    return IdentifierTrie.build(np.stack(np.unravel_index(chosen, SIZES), axis=1), SIZES, offsets_of(SIZES))


def smaller_and_larger() -> Iterator[tuple[int, IdentifierTrie]]:
    """Two catalogues with the positions ``FULL``, one sixteen times the other, and their numbers of items."""
    for items in (16**3, 16**4):
        values = np.stack(np.unravel_index(np.arange(items), FULL), axis=1)
        values = values if items == 16**4 else np.concatenate([values[:, 1:], np.zeros_like(values[:, :1])], 1)
        yield items, IdentifierTrie.build(values, FULL, offsets_of(FULL))


def dense_items(folder, items: int) -> DenseItems:
    rows = np.random.default_rng(0).normal(size=(items, 6)).astype(np.float32)
    return DenseItems(folder, rows, None, texts=True, checksum="of these")


def masses(trie, vectors, asked, bias=None):
    """For each inner depth, exact and estimated log masses: (B, nodes) each."""
    statistics = compute_statistics(trie, lambda rows: vectors[rows], bias)
    scores = vectors[trie.rows.long()] @ asked.T
    exact = PrefixMass(trie, None, scores if bias is None else scores + bias[trie.rows.long()].unsqueeze(1))
    for depth in range(1, trie.length):
        nodes = torch.arange(trie.num_nodes(depth)).repeat(len(asked), 1)
        pairs = torch.arange(len(asked)).repeat_interleave(nodes.size(1))
        found = statistics.log_mass(trie, depth, nodes.flatten(), pairs, asked @ statistics.basis)
        yield exact.below(depth, nodes, torch.ones_like(nodes, dtype=torch.bool)), found.view_as(nodes)


@pytest.mark.parametrize("whole_depths", [False, True], ids=["each query", "whole depths"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("width", [6, 150])
def test_masses_of_few_distinct_vectors_are_exact(width, biased, whole_depths, monkeypatch):
    """Whatever the number of items: k-means finds them, and their spread is 0."""
    monkeypatch.setattr(prefix_statistics, "MANY_QUERIES", 1 if whole_depths else 1 << 16)
    torch.manual_seed(0)
    trie = catalogue(400)
    # the last symbol decides the vector, so that each prefix has at most three
    kinds = torch.nn.functional.normalize(torch.randn(3, width), dim=1)
    leaf = torch.arange(len(trie))
    vectors = torch.empty(len(trie), width)
    vectors[trie.rows.long()] = kinds[trie.values[-1][leaf].long() % 3]
    bias = torch.linspace(-5, 5, len(trie)) if biased else None
    for exact, found in masses(trie, vectors, 20 * torch.nn.functional.normalize(torch.randn(7, width), dim=1), bias):
        torch.testing.assert_close(found, exact, atol=0.02, rtol=0)


def test_masses_of_a_cloud_are_near_and_those_of_few_items_exact():
    torch.manual_seed(0)
    trie = catalogue(500)
    vectors = torch.nn.functional.normalize(torch.randn(1, 12) + torch.randn(500, 12) * 0.1, dim=1)
    asked = 20 * torch.nn.functional.normalize(torch.randn(30, 12), dim=1)
    for depth, (exact, found) in enumerate(masses(trie, vectors, asked), start=1):
        begin, end = trie.leaves(depth, torch.arange(trie.num_nodes(depth)))
        few = end - begin <= CLUSTERS
        torch.testing.assert_close(found[:, few], exact[:, few], atol=0.02, rtol=0)
        assert (found - exact).abs().mean() < 0.1
        # without the spread the mass is too low: exp is convex
        assert (found - exact).mean().abs() < 0.1


def estimating(models, trie, beam, items, **options):
    """A generator that estimates masses whatever the size of the catalogue."""
    generator = IdentifierGenerator(models, whole(trie), 2, beam, dense=items, **options)
    generator.exact_items = 0
    return generator


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("members", [1, 2])
def test_a_wide_beam_ranks_as_with_exact_masses(tmp_path, scoring, members):
    """The scores of leaves are exact: with sets, without, with a bias and with ensembles."""
    trie, items = catalogue(90), dense_items(tmp_path, 90)
    models = [hybrid_model(SIZES, seed) for seed in range(members)]
    bias = torch.linspace(-1, 1, 90)
    sets = [CandidateSet(torch.arange(0, 90, 3)), None, CandidateSet(torch.arange(10)), CandidateSet(torch.tensor([7]))]
    net_input = queries(4, 0)
    options = {"scoring": scoring, "dense_weight": 1.5, "level_discount": 0.9, "bias": bias}
    exact = IdentifierGenerator(models, whole(trie), 2, 90, dense=items, **options).search(net_input, trie, sets)
    found = estimating(models, trie, 90, items, **options).search(net_input, trie, sets)
    torch.testing.assert_close(found.scores, exact.scores, atol=1e-3, rtol=0)
    real = exact.scores.isfinite()
    assert (found.rows == exact.rows)[real].float().mean() > 0.99  # two scores may be equal but for rounding


def test_statistics_are_stored_and_opened(tmp_path, monkeypatch):
    trie, items = catalogue(90), dense_items(tmp_path, 90)
    model, net_input = hybrid_model(SIZES, 0), queries(4, 0)
    data: Any = SimpleNamespace(dense_items=items, trie=trie)
    assert store_statistics([model], data) is None
    assert store_statistics([model_for(SIZES, 0)], data, exact_items=89) is None  # it has no dense head
    folder = store_statistics([model], data, exact_items=89)
    assert folder is not None
    key = statistics_key([model], items, trie, None)
    assert folder == tmp_path / STORED / key[:16]
    computed = compute_statistics(trie, lambda rows: model.dense.item(items.features(rows.numpy())).detach())
    opened = PrefixStatistics.open(folder, key, trie)
    for name, tensor in computed._named().items():
        torch.testing.assert_close(opened._named()[name], tensor, atol=0, rtol=0)
    expected = estimating([hybrid_model(SIZES, 0)], trie, 5, dense_items(tmp_path, 90)).search(net_input, trie)
    monkeypatch.setattr(stored_statistics, "compute_statistics", None)  # a search opens them
    found = estimating([model], trie, 5, items).search(net_input, trie)
    assert torch.equal(found.rows, expected.rows)


def test_statistics_of_something_else_or_damaged_are_refused(tmp_path):
    trie, items = catalogue(90), dense_items(tmp_path, 90)
    models = [hybrid_model(SIZES, seed) for seed in range(2)]
    keys = {statistics_key([model], items, trie, bias) for model in models for bias in (None, torch.zeros(90))}
    keys |= {statistics_key(models, items, trie, None), statistics_key(models[:1], items, catalogue(90, 1), None)}
    assert len(keys) == 6
    data: Any = SimpleNamespace(dense_items=items, trie=trie)
    folder = store_statistics(models[:1], data, exact_items=0)
    assert folder is not None
    with pytest.raises(ValueError, match="of another version, model or catalogue; remove the folder"):
        PrefixStatistics.open(folder, "0", trie)
    (folder / "leaves.npy").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"leaves\.npy: missing or damaged"):
        PrefixStatistics.open(folder, statistics_key(models[:1], items, trie, None), trie)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("nodes.1", lambda values: values + 1, "not the prefixes of this catalogue"),
        ("nodes.1", lambda values: values[:-1], "not the prefixes of this catalogue|holds float"),
        ("bias", lambda values: values * np.nan, "holds NaN or infinite values"),
        ("basis", lambda values: values * np.inf, "holds NaN or infinite values"),
    ],
)
def test_statistics_with_values_of_none_are_refused(tmp_path, name, change, said):
    items, trie, model = dense_items(tmp_path, 90), catalogue(90), hybrid_model(SIZES, 0)
    bias = torch.zeros(90)
    key = statistics_key([model], items, trie, bias)
    vectors = partial(item_vectors, [model], items)
    compute_statistics(trie, vectors, bias).save(tmp_path / "of", key)
    path = tmp_path / "of" / f"{name}.npy"
    values = np.load(path)
    assert len(values)
    np.save(path, change(values))
    with pytest.raises(CatalogueError, match=said):
        PrefixStatistics.open(tmp_path / "of", key, trie)


@pytest.mark.parametrize("facts", ["[]", "{}", '{"format": "prefix statistics 1"}'])
def test_facts_of_something_else_are_refused(tmp_path, facts):
    items, trie, model = dense_items(tmp_path, 90), catalogue(90), hybrid_model(SIZES, 0)
    key = statistics_key([model], items, trie, None)
    compute_statistics(trie, lambda rows: model.dense.item(items.features(rows.numpy()))).save(tmp_path / "of", key)
    PrefixStatistics.open(tmp_path / "of", key, trie)
    two = IdentifierTrie.build(np.stack([np.arange(90) % 9, np.arange(90)], 1), [9, 90], [4, 13])
    with pytest.raises(CatalogueError, match="of another version, model or catalogue"):
        PrefixStatistics.open(tmp_path / "of", key, two)
    (tmp_path / "of" / "statistics.json").write_text(facts)
    with pytest.raises(CatalogueError, match="of another version, model or catalogue"):
        PrefixStatistics.open(tmp_path / "of", key, trie)


def test_the_key_is_of_all_embeddings(tmp_path):
    items, trie, models = dense_items(tmp_path, 90), catalogue(90), [hybrid_model(SIZES, 0)]
    before = statistics_key(models, items, trie, None)
    items.checksum = "of others"
    assert statistics_key(models, items, trie, None) != before


def test_all_items_are_scored_where_identifiers_have_one_symbol(tmp_path):
    """There is no prefix whose mass would be estimated."""
    items, model = dense_items(tmp_path, 90), hybrid_model([90], 0)
    trie = IdentifierTrie.build(np.arange(90)[:, None], [90], offsets_of([90]))
    net_input = queries(4, 0)
    exact = IdentifierGenerator([model], whole(trie), 2, 5, dense=items).search(net_input, trie)
    found = estimating([model], trie, 5, items).search(net_input, trie)
    assert torch.equal(found.rows, exact.rows)
    assert torch.equal(found.scores, exact.scores)


@pytest.mark.parametrize("restricted", [False, True])
def test_a_search_makes_no_tensor_that_grows_with_the_catalogue(tmp_path, monkeypatch, restricted):
    """A depth of few prefixes is compared with each of many queries as a whole, up to ``WHOLE`` sub-clusters."""
    monkeypatch.setattr(prefix_statistics, "MANY_QUERIES", 1)
    monkeypatch.setattr(prefix_statistics, "WHOLE", 16 * CLUSTERS)
    net_input, largest = queries(4, 0), []
    for items, trie in smaller_and_larger():
        folder = tmp_path / str(items)
        folder.mkdir()
        chosen = CandidateSet(torch.arange(0, items, 2)) if restricted else None
        generator = estimating([hybrid_model(FULL, 0)], trie, 10, dense_items(folder, items))
        generator.search(net_input, trie, chosen)
        with LargestTensor() as mode:
            generator.search(net_input, trie, chosen)
        largest.append(mode.largest)
    # sets are lists of leaves, which a search may copy
    assert largest[1] <= max(largest[0] * 1.1, 16**4 / 2 if restricted else 0)


def test_nodes_are_compared_with_those_of_the_catalogue_by_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(prefix_statistics, "NODES", 64)
    sizes = [16, 16, 16]
    values = np.stack(np.unravel_index(np.arange(16**3), sizes), axis=1)
    trie = IdentifierTrie.build(values, sizes, offsets_of(sizes))
    folder = tmp_path / "statistics"
    vectors = torch.randn(len(trie), 2)
    compute_statistics(trie, lambda rows: vectors[rows]).save(folder, "key")
    with LargestTensor() as mode:
        opened = PrefixStatistics.open(folder, "key", trie)
    assert opened.depths[1].nodes.tolist() == [*range(256)]
    assert 0 < mode.largest <= 64
    nodes = np.arange(256)
    for damaged in (nodes[:-1], np.append(nodes, 256), np.where(nodes == 200, 201, nodes), nodes[:0]):
        np.save(folder / "nodes.2.npy", damaged)
        with pytest.raises(CatalogueError, match=r"nodes\.2\.npy: not the prefixes"):
            PrefixStatistics.open(folder, "key", trie)
