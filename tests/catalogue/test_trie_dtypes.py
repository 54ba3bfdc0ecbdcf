"""The smallest dtypes that hold a trie's numbers, and none that is too small."""

import numpy as np
import pytest

from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.catalogue.trie_build import index_dtype, value_dtype


@pytest.mark.parametrize(
    ("size", "expected"),
    [(2, np.uint8), (1 << 8, np.uint8), ((1 << 8) + 1, np.int16), (1 << 15, np.int16), ((1 << 15) + 1, np.int32)],
)
def test_dtypes_of_values(size, expected):
    assert value_dtype(size) is expected
    assert np.iinfo(expected).max >= size - 1


@pytest.mark.parametrize(
    ("count", "expected"), [(1, np.int32), ((1 << 31) - 1, np.int32), (1 << 31, np.int64), (1 << 40, np.int64)]
)
def test_dtypes_of_indices(count, expected):
    assert index_dtype(count) is expected
    assert np.iinfo(expected).max >= count


@pytest.mark.parametrize("last", [70_000, (1 << 31) + 5])
def test_rows_of_a_part_of_a_large_catalogue_keep_their_numbers(last):
    trie = IdentifierTrie.build(np.array([[1, 0], [0, 1], [0, 0]]), [2, 2], [4, 6], np.array([3, last, 40_000]))
    assert trie.rows.tolist() == [40_000, last, 3]


@pytest.mark.parametrize("size", [300, 40_000])
def test_values_between_the_limits_of_two_dtypes_are_kept(size):
    values = np.array([[size - 1, 0], [0, size - 1], [size // 2 + 1, 1]])
    trie = IdentifierTrie.build(values, [size] * 2, [4, 4 + size])
    assert trie.values[0].tolist() == [0, size // 2 + 1, size - 1]
    assert trie.values[1].tolist() == [size - 1, 1, 0]
