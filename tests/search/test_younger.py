"""Items that came after training are ranked by their dense scores, with the older items' expected identifier scores."""

import functools
import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lookahead import dense_score, hybrid_model, items, source_of  # noqa: F401
from test_prefix_statistics import FULL, dense_items, estimating, smaller_and_larger
from test_search_properties import LargestTensor, catalogues, offsets_of, queries, whole

from cart_fairseq.base.settings import SCORINGS
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.dense import younger
from cart_fairseq.search.dense.younger import Ages
from cart_fairseq.search.generator import IdentifierGenerator

WHOLE = 24


def expected(plain, dense, older, discount):
    """{row: score} of a query's candidates, in double precision.

    Args:
        plain: {row: the scores of the symbols} of the older candidates.
        dense: {row: weighted dense score} of all candidates.
        older: the older candidates.
    """
    levels = len(next(iter(plain.values()))) if plain else 0
    weights = torch.tensor([discount**level for level in range(levels)], dtype=torch.float64)
    scores = {row: float((plain[row] * weights).sum()) + dense[row] for row in older}
    share = torch.tensor([scores[row] for row in older], dtype=torch.float64).softmax(0)
    mean = sum((float(p) * float((plain[row] * weights).sum()) for p, row in zip(share, older, strict=True)), 0.0)
    return scores | {row: score + mean for row, score in dense.items() if row not in scores}


@settings(max_examples=60, deadline=None)
@given(
    catalogue=catalogues(),
    known=st.integers(0, WHOLE),
    scoring=st.sampled_from(SCORINGS),
    discount=st.sampled_from([1.0, 0.7]),
    lookahead=st.booleans(),
    exact=st.sampled_from([0, 1 << 16]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_ranking_equals_a_slow_one(items, catalogue, known, scoring, discount, lookahead, exact, seed, data):  # noqa: F811
    sizes, identifiers = catalogue
    trie = IdentifierTrie.build(np.array(identifiers), sizes, offsets_of(sizes))
    model = hybrid_model(sizes, seed)
    rows = st.lists(st.integers(0, len(identifiers) - 1), min_size=1, unique=True)
    chosen = [data.draw(st.none() | rows) for _ in range(3)]
    values = torch.tensor(identifiers)
    sets = [None if each is None else CandidateSet(trie.find(values[each])) for each in chosen]
    net_input = queries(3, seed)
    generator = IdentifierGenerator(
        [model], whole(trie), 2, WHOLE, 1.0, scoring, items, 2.0, discount, lookahead, ages=Ages(known)
    )
    generator.exact_items = exact
    found = generator.search(net_input, trie, sets)
    for query, own in enumerate(chosen):
        allowed = [*range(len(identifiers))] if own is None else own
        older = [row for row in allowed if row < known]
        plain = {}
        if older:
            alone = IdentifierGenerator([model], whole(trie), 2, WHOLE, 1.0, scoring)
            one = {name: tensor[query : query + 1] for name, tensor in net_input.items()}
            result = alone.search(one, trie, CandidateSet(trie.find(values[older])))
            plain = dict(zip(result.rows[0].tolist(), result.token_scores[0].double(), strict=True))
        with torch.no_grad():
            scores = dense_score([model], source_of(net_input, query), items, allowed, 2.0).tolist()
        wanted = expected(plain, dict(zip(allowed, scores, strict=True)), older, discount)
        there = found.scores[query].isfinite()
        got = dict(zip(found.rows[query][there].tolist(), found.scores[query][there].tolist(), strict=True))
        assert got == pytest.approx(wanted, rel=1e-3, abs=1e-3)
        assert found.scores[query][there].tolist() == sorted(found.scores[query][there].tolist(), reverse=True)
        for row, symbols in zip(found.rows[query][there].tolist(), found.tokens[query][there].tolist(), strict=True):
            assert symbols == (np.array(identifiers[row]) + offsets_of(sizes)).tolist()


def test_a_narrow_beam_keeps_the_best_of_both(items):  # noqa: F811
    sizes = [4, 3, 2]
    identifiers = [(a, b, c) for a in range(4) for b in range(3) for c in range(2)]
    trie = IdentifierTrie.build(np.array(identifiers), sizes, offsets_of(sizes))
    model, net_input = hybrid_model(sizes, 3), queries(4, 3)
    options = (1.0, "masked", items, 1.0)
    wide = IdentifierGenerator([model], whole(trie), 2, WHOLE, *options, ages=Ages(16)).search(net_input, trie)
    narrow = IdentifierGenerator([model], whole(trie), 2, 3, *options, ages=Ages(16)).search(net_input, trie)
    assert narrow.rows.shape == (4, 3)
    best = [row for row in wide.rows[0].tolist() if row >= 16][:3]
    assert [row for row in narrow.rows[0].tolist() if row >= 16] == best[: sum(narrow.rows[0] >= 16)]


@pytest.mark.parametrize("weight", [0.0, None])
def test_without_a_dense_score_age_has_no_effect(items, weight):  # noqa: F811
    sizes = [4, 3]
    trie = IdentifierTrie.build(np.array([(a, b) for a in range(4) for b in range(3)]), sizes, offsets_of(sizes))
    model, net_input = hybrid_model(sizes, 3), queries(4, 3)
    source = items if weight == 0 else None
    found, plain = (
        IdentifierGenerator([model], whole(trie), 2, 5, 1.0, "masked", source, weight, ages=ages).search(
            net_input, trie
        )
        for ages in (Ages(6), None)
    )
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


def test_sets_are_divided_once():
    trie = IdentifierTrie.build(np.array([(a, b) for a in range(4) for b in range(3)]), [4, 3], [4, 8])
    ages, some = Ages(6), CandidateSet(torch.tensor([2, 8]))
    first = ages.divide(trie, [None, some], 2, torch.device("cpu"))
    again = ages.divide(trie, [None, some], 2, torch.device("cpu"))
    assert first is not None
    assert again is not None
    assert all(a is b for a, b in zip(first.older + first.younger, again.older + again.younger, strict=True))
    assert ages.divide(trie, CandidateSet(torch.tensor([0, 5])), 2, torch.device("cpu")) is None


@pytest.mark.parametrize("leaves", [[0, 5], [2, 8], [8, 9]])
def test_divisions_keep_no_set_in_memory(leaves):
    trie = IdentifierTrie.build(np.array([(a, b) for a in range(4) for b in range(3)]), [4, 3], [4, 8])
    ages, used = Ages(6), CandidateSet(torch.tensor(leaves))
    ages.divide(trie, used, 1, torch.device("cpu"))
    gone = weakref.ref(used)
    del used
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("beam", [3, WHOLE])
@pytest.mark.parametrize("exact", [0, 1 << 16])
def test_siblings_that_are_no_candidates_stay_out(items, beam, exact):  # noqa: F811
    sizes = [4, 3, 2]
    identifiers = np.array([(a, b, c) for a in range(4) for b in range(3) for c in range(2)])
    np.random.default_rng(1).shuffle(identifiers)  # so that older and younger items are siblings
    trie = IdentifierTrie.build(identifiers, sizes, offsets_of(sizes))
    sets = [None, CandidateSet(torch.arange(0, WHOLE, 3)), CandidateSet(torch.arange(4, 20))]
    generator = IdentifierGenerator(
        [hybrid_model(sizes, 3)], whole(trie), 2, beam, 1.0, "masked", items, 2.0, ages=Ages(12)
    )
    generator.exact_items = exact
    found = generator.search(queries(3, 3), trie, sets)
    for query, each in enumerate(sets):
        allowed = trie.rows.tolist() if each is None else trie.rows[each.leaves].tolist()
        rows = found.rows[query][found.scores[query].isfinite()].tolist()
        assert len(rows) == min(beam, len(allowed))
        assert len({*rows} & {*allowed}) == len(rows)


class ListedAges(Ages):
    """Divides candidates into two lists."""

    @functools.cache  # noqa: B019
    def _parts(self, trie, each):
        leaves = torch.arange(len(trie)) if each is None else each.leaves
        is_younger = trie.rows[leaves] >= self.known_items
        parts = [CandidateSet(leaves[mask]) if mask.any() else each for mask in (~is_younger, is_younger)]
        return *parts, not is_younger.all(), bool(is_younger.any())


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("exact", [0, 1 << 16])
@pytest.mark.parametrize("known", [100, 85, 50, 9])
def test_results_are_those_of_lists(tmp_path, monkeypatch, scoring, exact, known):
    monkeypatch.setattr(younger, "BLOCK", 7)
    sizes = [5, 5, 4]
    identifiers = np.stack(np.unravel_index(np.random.default_rng(2).permutation(100), sizes), axis=1)
    trie, model = IdentifierTrie.build(identifiers, sizes, offsets_of(sizes)), hybrid_model(sizes, 3)
    sets = [None, CandidateSet(torch.arange(0, 100, 2)), CandidateSet(torch.arange(30, 70)), None]
    for candidates in (sets, None, sets[1]):
        results = []
        for kind in (ListedAges, Ages):
            generator = IdentifierGenerator(
                [model], whole(trie), 2, 20, 1.0, scoring, dense_items(tmp_path, 100), 1.5, 0.9, ages=kind(known)
            )
            generator.exact_items = exact
            results.append(generator.search(queries(4, 1), trie, candidates))
        assert all(torch.equal(listed, found) for listed, found in zip(*results, strict=True))


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("younger_items", [3, -3])
def test_dividing_a_large_set_makes_no_list_of_its_larger_half(tmp_path, monkeypatch, restricted, younger_items):
    monkeypatch.setattr(younger, "BLOCK", 1 << 10)
    net_input, largest = queries(4, 0), []
    for size, trie in smaller_and_larger():
        folder = tmp_path / str(size)
        folder.mkdir()
        known = (size - younger_items) % size
        chosen = CandidateSet(torch.arange(0, size, 2)) if restricted else None
        options = {"dense_weight": 1.0, "ages": Ages(known)}
        generator = estimating([hybrid_model(FULL, 0)], trie, 10, dense_items(folder, size), **options)
        generator.search(net_input, trie, chosen)
        generator.ages = Ages(known)  # which has divided nothing
        with LargestTensor() as mode:
            assert generator.ages.divide(trie, chosen, 4, torch.device("cpu")) is not None
            generator.search(net_input, trie, chosen)
        largest.append(mode.largest)
    assert largest[1] <= largest[0] * 1.1
    assert largest[1] < 16**4 / 4
