"""The trie's look-ups equal a dictionary of prefixes, on random trees of every shape."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cart_fairseq.catalogue import trie_build
from cart_fairseq.catalogue.trie import IdentifierTrie


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


def build(seed=0, items=300, length=4, size=12):
    values = random_identifiers(seed, items, length, size)
    return values, IdentifierTrie.build(values, [size] * length, offsets(length, size))


@pytest.mark.parametrize("length", [3, 8, 12])
@pytest.mark.parametrize("size", [2, 200, 1 << 14, 1 << 20])
def test_sorts_identifiers_of_any_width(monkeypatch, length, size):
    """Packed with the row, packed alone, and in several words; in blocks smaller than the catalogue."""
    monkeypatch.setattr(trie_build, "BLOCK", 7)
    values = random_identifiers(length, 100, length, size)
    trie = IdentifierTrie.build(values, [size] * length, offsets(length, size))
    expected = sorted(range(len(values)), key=lambda row: tuple(values[row]))
    assert trie.rows.tolist() == expected
    for depth in range(length):
        prefixes = sorted({tuple(value[: depth + 1]) for value in values.tolist()})
        assert trie.values[depth].tolist() == [prefix[-1] for prefix in prefixes]
        parents = sorted({tuple(value[:depth]) for value in values.tolist()})
        firsts = [next(i for i, prefix in enumerate(prefixes) if prefix[:depth] == parent) for parent in parents]
        assert trie.first_child[depth].tolist() == [*firsts, len(prefixes)]


@pytest.mark.parametrize("block", [1, 5, 1 << 20])
def test_equal_identifiers_are_named(monkeypatch, block):
    monkeypatch.setattr(trie_build, "BLOCK", block)
    values = np.array([[1, 1], [0, 2], [2, 0], [0, 2]])
    with pytest.raises(ValueError, match="rows 1 and 3 have the same identifier"):
        IdentifierTrie.build(values, [3, 3], [4, 7])


@pytest.mark.parametrize("bad", [-1, 3])
def test_values_outside_their_position_are_named(bad):
    with pytest.raises(ValueError, match=f"row 1, position 0: {bad} is not one of the 3"):
        IdentifierTrie.build(np.array([[0, 0], [bad, 1]]), [3, 3], [4, 7])


def test_wrong_shapes_and_dtypes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        IdentifierTrie.build(np.zeros((2, 3), dtype=np.int32), [2] * 4, offsets(4, 2))
    with pytest.raises(ValueError, match="dtype float64"):
        IdentifierTrie.build(np.zeros((1, 3)), [2] * 3, offsets(3, 2))


def test_find_inverts_rows_and_knows_what_is_not_there():
    values, trie = build()
    leaves = trie.find(torch.from_numpy(values))
    assert torch.equal(trie.rows[leaves].long(), torch.arange(len(values)))
    known = set(map(tuple, values.tolist()))
    others = [v for v in random_identifiers(5, 400, 4, 12).tolist() if tuple(v) not in known]
    assert len(others) > 100
    assert trie.find(torch.tensor(others)).tolist() == [-1] * len(others)


def test_leaves_below_a_node_are_the_items_with_its_prefix():
    values, trie = build()
    node, ordered = torch.tensor([0]), values[trie.rows.numpy()]
    for depth in range(4):
        begin, end = trie.leaves(depth, node)
        prefix = ordered[int(begin), :depth]
        expected = np.flatnonzero((ordered[:, :depth] == prefix).all(1))
        assert (int(begin), int(end)) == (expected[0], expected[-1] + 1)
        node = trie.children(depth, node)[0][:, 0]


def test_a_saved_trie_is_the_same_and_needs_little_memory(tmp_path):
    values, trie = build(items=5000, size=30)
    trie.save(tmp_path / "t", "f" * 64)
    loaded = IdentifierTrie.load(tmp_path / "t", "f" * 64)
    assert (loaded.sizes, loaded.offsets, loaded.width, len(loaded)) == (
        trie.sizes,
        trie.offsets,
        trie.width,
        len(trie),
    )
    for one, other in zip(
        (*loaded.values, *loaded.first_child, loaded.rows), (*trie.values, *trie.first_child, trie.rows), strict=True
    ):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert trie.nbytes < 15 * len(values)
    trie.save(tmp_path / "again", "f" * 64)
    assert (tmp_path / "t").read_bytes() == (tmp_path / "again").read_bytes()


def test_damaged_and_foreign_files_are_refused(tmp_path):
    _, trie = build()
    trie.save(tmp_path / "t", "f" * 64)
    whole = (tmp_path / "t").read_bytes()
    with pytest.raises(ValueError, match="other identifiers"):
        IdentifierTrie.load(tmp_path / "t", "e" * 64)
    with pytest.raises(ValueError, match="no such file"):
        IdentifierTrie.load(tmp_path / "none", "f" * 64)
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut: damaged"):
            IdentifierTrie.load(tmp_path / "cut", "f" * 64)
    save_file({"rows": trie.rows}, tmp_path / "other")
    with pytest.raises(ValueError, match="format is None"):
        IdentifierTrie.load(tmp_path / "other", "f" * 64)
    _, smaller = build(items=50)
    trie.values[2] = smaller.values[2]
    trie.save(tmp_path / "mixed", "f" * 64)
    with pytest.raises(ValueError, match="do not fit together"):
        IdentifierTrie.load(tmp_path / "mixed", "f" * 64)
