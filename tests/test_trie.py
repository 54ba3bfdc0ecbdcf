"""The trie's look-ups equal a dictionary of prefixes, on random trees of every shape."""

import numpy as np
import pytest
import torch

from cart_fairseq.trie import IdentifierTrie


def random_identifiers(seed: int, items: int, length: int, size: int) -> np.ndarray:
    values = np.unique(np.random.default_rng(seed).integers(0, size, size=(items, length)), axis=0)
    return np.random.default_rng(seed).permutation(values)


def offsets(length: int, size: int) -> list[int]:
    return [4 + size * position for position in range(length)]


@pytest.mark.parametrize("length", range(2, 9))
@pytest.mark.parametrize(("items", "size"), [(1, 3), (2, 2), (60, 2), (60, 5), (200, 40)])
def test_mask_equals_a_dictionary_of_prefixes(length, items, size):
    values = random_identifiers(length, items, length, size)
    trie = IdentifierTrie.build(values, [size] * length, offsets(length, size))
    nodes: dict[tuple[int, ...], int] = {(): 0}
    for depth in range(length):
        prefixes = list(nodes)
        rows = torch.tensor([nodes[prefix] for prefix in prefixes])
        mask, (child, symbols, exists) = trie.mask(depth, rows), trie.children(depth, rows)
        nodes = {}
        for i, prefix in enumerate(prefixes):
            expected = {int(v[depth]) for v in values if tuple(v[:depth]) == prefix}
            assert set(mask[i].nonzero().flatten().tolist()) == expected
            for node, symbol in zip(child[i][exists[i]].tolist(), symbols[i][exists[i]].tolist(), strict=True):
                nodes[(*prefix, symbol - trie.offsets[depth])] = node
        assert len(nodes) == trie.num_nodes(depth + 1)
    assert {leaf: values[trie.rows[node]].tolist() for leaf, node in nodes.items()} == {
        tuple(v): v.tolist() for v in values
    }


def test_rows_name_the_items_of_a_subset():
    values = random_identifiers(0, 50, 3, 6)
    rows = np.array([40, 3, 17])
    trie = IdentifierTrie.build(values[rows], [6] * 3, offsets(3, 6), rows)
    assert sorted(trie.rows.tolist()) == [3, 17, 40]
    assert len(trie) == 3


def test_void_children_stay_in_range():
    trie = IdentifierTrie.build(np.array([[0, 0], [0, 1], [0, 2], [1, 0]]), [2, 3], [4, 6])
    child, symbols, exists = trie.children(1, torch.tensor([1]))
    assert exists.tolist() == [[True, False, False]]
    assert child.max() < trie.num_nodes(2)
    assert symbols.max() < 9


def test_nothing_to_search_and_equal_identifiers_are_refused():
    with pytest.raises(ValueError, match="no candidate"):
        IdentifierTrie.build(np.zeros((0, 3), dtype=np.int32), [2] * 3, offsets(3, 2))
    with pytest.raises(ValueError, match="same identifier"):
        IdentifierTrie.build(np.zeros((2, 3), dtype=np.int32), [2] * 3, offsets(3, 2))
