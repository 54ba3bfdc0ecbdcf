"""Candidate sets: what is below a node, per query; and how CartRetriever takes them."""

import numpy as np
import pytest
import torch
from conftest import make_model

from cart_fairseq.catalogue.candidates import BatchCandidates, CandidateSet
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.retriever import CartRetriever

CPU = torch.device("cpu")


@pytest.fixture
def trie():
    values = np.unique(np.random.default_rng(0).integers(0, 5, size=(80, 3)), axis=0)
    return IdentifierTrie.build(values, [5] * 3, [4, 9, 14])


def test_counts_equal_a_loop_over_the_leaves(trie):
    sets = [CandidateSet(torch.tensor([7, 3, 3, 20])), None, CandidateSet(torch.tensor([len(trie) - 1]))]
    allowed = BatchCandidates(trie, [*sets, sets[0]], 4, CPU)
    assert allowed.largest == len(trie)
    for depth in range(4):
        nodes = torch.arange(trie.num_nodes(depth)).expand(4, -1)
        begin, end = trie.leaves(depth, nodes[0])
        for query, each in enumerate([*sets, sets[0]]):
            members = set(range(len(trie))) if each is None else set(each.leaves.tolist())
            expected = [len(members & set(range(b, e))) for b, e in zip(begin.tolist(), end.tolist(), strict=True)]
            assert allowed.count(depth, nodes)[query].tolist() == expected


def test_sets_of_all_but_a_few_equal_lists_of_the_others(trie):
    items = len(trie)
    listed, few, others = torch.arange(0, items, 2), torch.tensor([4, 10, items - 2 - items % 2]), torch.tensor([0, 5])
    sets = [
        CandidateSet.of_parts(None, others, items - 2),
        CandidateSet.of_parts(listed, few, len(listed) - 3),
        CandidateSet(torch.tensor([7, 3])),
        None,
        CandidateSet.of_parts(None, few, items - 3),
    ]
    wanted = [{*range(items)} - {0, 5}, {*listed.tolist()} - {*few.tolist()}, {3, 7}, {*range(items)}]
    wanted.append({*range(items)} - {*few.tolist()})
    for order in ([0, 1, 2, 3, 4], [3, 4], [0], [1, 3], [2, 1, 0], [4, 4, 2]):
        allowed = BatchCandidates(trie, [sets[place] for place in order], len(order), CPU)
        assert allowed.largest == max(len(wanted[place]) for place in order)
        for depth in range(4):
            nodes = torch.arange(trie.num_nodes(depth)).expand(len(order), -1)
            begin, end = trie.leaves(depth, nodes[0])
            found = allowed.count(depth, nodes).tolist()
            for place, counts in zip(order, found, strict=True):
                ranges = zip(begin.tolist(), end.tolist(), strict=True)
                assert counts == [len(wanted[place] & {*range(b, e)}) for b, e in ranges]
                each = sets[place]
                if each is not None:
                    assert each.leaves.tolist() == sorted(wanted[place])
                    assert each.count(begin, end).tolist() == counts


def test_empty_sets_and_wrong_numbers_of_sets_are_refused(trie):
    with pytest.raises(ValueError, match="empty"):
        CandidateSet(torch.tensor([], dtype=torch.int64))
    with pytest.raises(ValueError, match="2 candidate sets for 3 queries"):
        BatchCandidates(trie, [None, None], 3, CPU)


@pytest.fixture
def retriever(task):
    return CartRetriever([make_model(task)], task.data)


TEXTS = ["red dog", "blue cat sleeps", "old tree"]


def ids(results):
    return [[hit.item_id for hit in hits] for hits in results]


def test_item_ids_of_one_search(retriever):
    chosen = ["item 4", "item 0", "item 17", "item 4"]
    for hits in ids(retriever.search(TEXTS, candidates=chosen)):
        assert sorted(hits) == ["item 0", "item 17", "item 4"]


def test_one_set_for_each_query(retriever):
    prepared = retriever.candidate_set("valid")
    found = ids(retriever.search(TEXTS, k=30, candidates=[["item 5"], None, prepared]))
    assert found[0] == ["item 5"]
    assert sorted(found[1]) == sorted(f"item {i}" for i in range(24))
    assert sorted(found[2]) == sorted(f"item {i}" for i in range(1, 24, 3))
    assert found[2] == ids(retriever.search(TEXTS[2:], k=30, candidates="valid"))[0]


def test_wrong_candidates_are_refused(retriever):
    with pytest.raises(ValueError, match="'item 99' is not in the catalogue"):
        retriever.search(TEXTS, candidates=["item 1", "item 99"])
    with pytest.raises(ValueError, match="no candidate set 'nowhere'"):
        retriever.search(TEXTS, candidates="nowhere")
    with pytest.raises(ValueError, match="2 candidate sets for 3 queries"):
        retriever.search(TEXTS, candidates=[["item 1"], None])
    with pytest.raises(ValueError, match="mixes"):
        retriever.search(TEXTS, candidates=["item 1", None, None])
    with pytest.raises(ValueError, match="no candidate"):
        retriever.search(TEXTS, candidates=[])


def test_rows_of_and_item_id(task):
    bundle = task.data.bundle
    assert bundle.rows_of(["item 7", "item 2", "item 7"]).tolist() == [2, 7]
    assert [bundle.item_id(row) for row in range(24)] == bundle.item_ids
