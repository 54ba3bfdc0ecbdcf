"""Look-ahead equals a slow reference in double precision; with a beam as wide as the catalogue, exhaustive ranking."""

import gc
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search_properties import catalogues, model_for, offsets_of, queries, whole

from cart_fairseq.base.settings import SCORINGS
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.network.dense_head import DenseHead
from cart_fairseq.network.precision import convert
from cart_fairseq.search.dense import item_vectors
from cart_fairseq.search.dense.prefix_mass import PrefixMass
from cart_fairseq.search.generator import IdentifierGenerator

WIDTH = 6


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> DenseItems:
    """Features of 24 items, the most that `catalogues` draws."""
    folder = tmp_path_factory.mktemp("items")
    rows = np.random.default_rng(0).normal(size=(24, WIDTH)).astype(np.float32)
    return DenseItems(folder, rows, None, texts=True, checksum="of these")


def hybrid_model(sizes, seed, scale=16.0, weight=1.0):
    model = model_for(sizes, seed)
    torch.manual_seed(seed)
    model.dense = DenseHead(8, WIDTH, 5, 0.0, weight)
    with torch.no_grad():
        model.dense.log_scale.fill_(math.log(scale))
    return model.eval()


def dense_score(models, source, items, rows, weight):
    """Weighted mean of the heads' scores of items: (n,) float64."""
    parts = []
    for model in models:
        head = model.dense
        query = head.query(model.encoder(source.unsqueeze(0), torch.tensor([len(source)])))[0].double()
        own = float(head.weight) if weight is None else weight
        parts.append(head.item(items.features(np.asarray(rows))).double() @ query * head.scale().double() * own)
    return sum(parts) / len(parts)


def reference(models, source, identifiers, scores, weight, offsets, beam, scoring, discount):
    """Beam search for one query that runs the decoders anew for every prefix: [(identifier, score), …].

    Args:
        scores: {identifier: weighted dense score} of the candidates.
        weight: the weight that they have.
    """
    source = source.unsqueeze(0)
    beams: list[tuple[tuple[int, ...], float, float]] = [((), 0.0, 0.0)]
    for position in range(len(offsets)):
        found = []
        for prefix, score, _ in beams:
            children = sorted({value[position] for value in identifiers if value[:position] == prefix})
            symbols = [2] + [offsets[depth] + value for depth, value in enumerate(prefix)]
            logits = [model(source, None, torch.tensor([symbols]))[0][0, -1].double() for model in models]
            valid = torch.tensor([offsets[position] + child for child in children])
            if scoring == "renormalised":
                each = torch.stack([one[valid].log_softmax(0) for one in logits])
            else:
                each = torch.stack([one.log_softmax(0)[valid] for one in logits])
            step = each.logsumexp(0) - math.log(len(models))
            for child, log_prob in zip(children, step.tolist(), strict=True):
                longer = (*prefix, child)
                below = [s / weight for value, s in scores.items() if value[: position + 1] == longer]
                total = score + discount**position * log_prob
                mass = weight * torch.tensor(below, dtype=torch.float64).logsumexp(0).item()
                found.append((longer, total, total + mass))
        beams = sorted(found, key=lambda each: -each[2])[:beam]
    return [(identifier, guide) for identifier, _, guide in beams]


def source_of(net_input, query):
    source = net_input["src_tokens"][query]
    return source[source != 1]


SETTINGS = {
    "beam": st.integers(1, 30),
    "scoring": st.sampled_from(SCORINGS),
    "seed": st.integers(0, 99),
    "members": st.integers(1, 2),
    "weight": st.sampled_from([None, 0.3, 3.0]),
    "discount": st.sampled_from([1.0, 0.7]),
    "scale": st.sampled_from([1.0, 16.0, 100.0]),
    "data": st.data(),
}


@settings(max_examples=60, deadline=None)
@given(catalogue=catalogues(), **SETTINGS)
def test_look_ahead_equals_the_reference(items, catalogue, beam, scoring, seed, members, weight, discount, scale, data):
    sizes, identifiers = catalogue
    trie = IdentifierTrie.build(np.array(identifiers), sizes, offsets_of(sizes))
    models = [hybrid_model(sizes, seed + member, scale, weight=1.0 + member) for member in range(members)]
    rows = st.lists(st.integers(0, len(identifiers) - 1), min_size=1, unique=True)
    chosen = [data.draw(st.none() | rows) for _ in range(3)]
    sets = [None if each is None else CandidateSet(trie.find(torch.tensor(identifiers)[each])) for each in chosen]
    generator = IdentifierGenerator(models, whole(trie), 2, beam, 1.0, scoring, items, weight, discount)
    net_input = queries(3, seed)
    found = generator.search(net_input, trie, sets)
    for query, members_of in enumerate(chosen):
        allowed = [*range(len(identifiers))] if members_of is None else members_of
        source, own = source_of(net_input, query), [identifiers[row] for row in allowed]
        with torch.no_grad():
            dense = dense_score(models, source, items, allowed, weight).tolist()
            mean = (1.0 if members == 1 else 1.5) if weight is None else weight
            scored = dict(zip(own, dense, strict=True))
            expected = reference(models, source, own, scored, mean, trie.offsets, beam, scoring, discount)
        real = found.scores[query].isfinite()
        assert int(real.sum()) == len(expected)
        scores = torch.tensor([score for _, score in expected])
        if beam >= len(allowed) or (scores[:-1] - scores[1:] > 1e-3).all():
            torch.testing.assert_close(found.scores[query][real], scores, atol=1e-3, rtol=0)
        gaps = (scores[:-1] - scores[1:]).tolist()
        if all(gap > 1e-3 for gap in gaps):
            rows_found = found.rows[query][real].tolist()
            assert [identifiers[row] for row in rows_found] == [identifier for identifier, _ in expected]
        plain = (found.token_scores[query][real] * discount ** torch.arange(len(sizes))).sum(1)
        hybrid = plain + torch.tensor([scored[identifiers[row]] for row in found.rows[query][real].tolist()])
        torch.testing.assert_close(found.scores[query][real], hybrid, atol=1e-3, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16", "int8"])
@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_beam_as_wide_as_the_catalogue_ranks_as_reranking_does(items, scoring, precision):
    sizes = [3, 2, 2, 2]
    identifiers = np.stack(np.unravel_index(np.arange(24), sizes), axis=1)
    trie = IdentifierTrie.build(identifiers, sizes, offsets_of(sizes))
    model, net_input = convert(hybrid_model(sizes, 3), precision), queries(8, 3)
    ahead, behind = (
        IdentifierGenerator([model], whole(trie), 2, 30, 1.0, scoring, items, 2.0, 0.8, lookahead).search(
            net_input, trie
        )
        for lookahead in (True, False)
    )
    tolerance = {"float32": 1e-4, "fp16": 0.1, "bf16": 0.8, "int8": 1e-4}[precision]  # of the dot product at weight 32
    by_row = [found.scores.gather(1, found.rows.argsort(1)) for found in (ahead, behind)]
    torch.testing.assert_close(*by_row, atol=tolerance, rtol=0)
    assert (ahead.scores.diff(dim=1) <= 0).all()
    if precision == "float32":
        assert torch.equal(ahead.rows, behind.rows)


def test_a_narrow_beam_reaches_what_identifier_scores_alone_would_drop(items):
    """The decoder is sure of symbol 0 at the first position; the best item by far begins with 1."""
    sizes = [2, 12]
    identifiers = np.stack(np.unravel_index(np.arange(24), sizes), axis=1)
    trie = IdentifierTrie.build(identifiers, sizes, offsets_of(sizes))
    model = hybrid_model(sizes, 0)
    bias = torch.zeros(24)
    bias[17] = 500
    net_input = queries(4, 0)
    with torch.no_grad():
        model.decoder.output_projection.weight[trie.offsets[0] : trie.offsets[1]] = 0
    for lookahead, first in ((True, 17), (False, None)):
        model.dense.weight.fill_(1.0)
        generator = IdentifierGenerator(
            [model], whole(trie), 2, 1, dense=items, lookahead=lookahead, bias=bias, dense_weight=1.0
        )
        found = generator.search(net_input, trie).rows[:, 0]
        if first is None:
            assert (found != 17).any()
        else:
            assert (found == first).all()


@pytest.mark.parametrize("lookahead", [True, False])
def test_a_bias_is_a_part_of_the_dense_score(items, lookahead):
    sizes = [4, 6]
    identifiers = np.stack(np.unravel_index(np.arange(24), sizes), axis=1)
    trie = IdentifierTrie.build(identifiers, sizes, offsets_of(sizes))
    model, net_input = hybrid_model(sizes, 1), queries(5, 1)
    bias = torch.linspace(-2, 2, 24)
    plain, biased = (
        IdentifierGenerator(
            [model], whole(trie), 2, 24, dense=items, dense_weight=0.5, lookahead=lookahead, bias=each
        ).search(net_input, trie)
        for each in (None, bias)
    )
    by_row = [found.scores.gather(1, found.rows.argsort(1)) for found in (plain, biased)]
    torch.testing.assert_close(by_row[1] - by_row[0], (0.5 * bias).expand(5, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_without_weight_nothing_changes(items, scoring):
    sizes = [3, 2, 4]
    identifiers = np.stack(np.unravel_index(np.arange(24), sizes), axis=1)
    trie = IdentifierTrie.build(identifiers, sizes, offsets_of(sizes))
    net_input = queries(6, 2)
    plain = IdentifierGenerator([model_for(sizes, 2)], whole(trie), 2, 5, scoring=scoring).search(net_input, trie)
    for weight, own in ((0, 1.0), (None, 0.0)):
        model = hybrid_model(sizes, 2, weight=own)
        generator = IdentifierGenerator([model], whole(trie), 2, 5, 1.0, scoring, items, weight)
        found = generator.search(net_input, trie)
        for name, value in plain._asdict().items():
            torch.testing.assert_close(getattr(found, name), value, atol=0, rtol=0)


@settings(max_examples=60, deadline=None)
@given(catalogue=catalogues(), seed=st.integers(0, 99), spread=st.sampled_from([1e-3, 1.0, 100.0, 3e4]), data=st.data())
def test_prefix_masses_are_those_of_double_precision(catalogue, seed, spread, data):
    sizes, identifiers = catalogue
    trie = IdentifierTrie.build(np.array(identifiers), sizes, offsets_of(sizes))
    chosen = data.draw(st.none() | st.lists(st.integers(0, len(trie) - 1), min_size=1, unique=True))
    leaves = None if chosen is None else torch.tensor(sorted(chosen))
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(trie if leaves is None else leaves), 3, generator=draw) * spread
    mass = PrefixMass(trie, leaves, scores)
    wanted = torch.arange(len(trie)) if leaves is None else leaves
    for depth in range(1, trie.length + 1):
        nodes = torch.arange(trie.num_nodes(depth)).repeat(3, 1)
        begin, end = trie.leaves(depth, nodes[0])
        below = (wanted.unsqueeze(0) >= begin.unsqueeze(1)) & (wanted.unsqueeze(0) < end.unsqueeze(1))
        expected = scores.double().T.unsqueeze(1).masked_fill(~below, float("-inf")).logsumexp(2)
        found = mass.below(depth, nodes, below.any(1).expand(3, -1))
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)


def test_vectors_are_computed_once_until_the_head_changes(items, monkeypatch):
    sizes = [4, 6]
    identifiers = np.stack(np.unravel_index(np.arange(24), sizes), axis=1)
    trie = IdentifierTrie.build(identifiers, sizes, offsets_of(sizes))
    model, net_input = hybrid_model(sizes, 1), queries(5, 1)
    calls = []
    real = item_vectors.item_vectors

    def counted(*args):
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(item_vectors, "item_vectors", counted)

    def search(trie):
        found = IdentifierGenerator([model], whole(trie), 2, 24, dense=items).search(net_input, trie)
        again = IdentifierGenerator([model], whole(trie), 2, 24, dense=items, lookahead=False).search(net_input, trie)
        torch.testing.assert_close(found.scores, again.scores, atol=1e-4, rtol=0)
        return found

    first = search(trie)
    search(trie)
    assert len(calls) == 1
    with torch.no_grad():
        model.dense.item_tower.deep[1].weight.add_(0.5)
    second = search(trie)
    assert len(calls) == 2
    model.train()
    model.dense.item_tower.straight.weight.data.mul_(-1)  # as fairseq's optimisers write
    third = search(trie)
    assert len(calls) == 3
    assert not torch.allclose(first.scores, second.scores)
    assert not torch.allclose(second.scores, third.scores)
    owners = item_vectors._kept[model.dense]
    assert len(owners) == 1
    del trie
    gc.collect()
    assert len(owners) == 0
