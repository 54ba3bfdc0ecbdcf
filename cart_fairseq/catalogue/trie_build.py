"""Builds the flat levels of the trie from an array of identifiers, block by block, with no Python object per node.

If 63 bits hold an identifier and its row, both are packed into one integer, so a single integer sort orders them. The
levels are then computed by comparing neighbouring identifiers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

BLOCK = 1 << 20
WORD_BITS = 63


class Levels(NamedTuple):
    """The sorted identifiers, level by level.

    Attributes:
        values: for each depth d, the value of each node of depth d + 1; uint8, int16 or int32.
        first_child: for each depth d, the first child of each node of depth d, then the number of nodes of depth d + 1;
            int32 or int64.
        order: (N,) int32 or int64, the input row of each sorted identifier.
    """

    values: list[np.ndarray]
    first_child: list[np.ndarray]
    order: np.ndarray


def build_levels(values: np.ndarray, sizes: Sequence[int]) -> Levels:
    """Sort identifiers and build the levels of their trie.

    Args:
        values: (N, J) integers, one distinct identifier per row; read in blocks, so may be memory-mapped.
        sizes: the number of possible values of each position.

    Raises:
        ValueError: a value is out of its position's range, or two identifiers are equal; the message names the rows.
    """
    check_values(values, sizes)
    order, columns = sort_rows(values, sizes)
    return Levels(*_levels(columns, order, sizes), order)


Columns = Callable[[slice], list[np.ndarray]]


def sort_rows(values: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, Columns]:
    """Sort rows of values that are in range; equal rows keep their order.

    Returns:
        (N,) int32 or int64, the input row of each sorted row; and a function that maps a slice of the sorted rows to
        their values, one array per position.
    """
    bits = bits_of(sizes)
    row_bits = max(1, (len(values) - 1).bit_length())
    if sum(bits) + row_bits <= WORD_BITS:
        return _sort_packed(values, bits, row_bits)
    return _sort_by_words(values, bits)


def bits_of(sizes: Sequence[int]) -> list[int]:
    """Return the number of bits that the values of each position need, at least one."""
    return [max(1, (size - 1).bit_length()) for size in sizes]


def value_dtype(size: int) -> type:
    """Return the smallest dtype for values below ``size``, of those that torch can index on every device."""
    return np.uint8 if size <= 1 << 8 else np.int16 if size <= 1 << 15 else np.int32


def index_dtype(count: int) -> type:
    """Return the smallest dtype for indices up to and including ``count``."""
    return np.int32 if count < 1 << 31 else np.int64


def blocks(length: int) -> list[slice]:
    """Return consecutive slices of at most ``BLOCK`` rows that cover ``length`` rows."""
    return [slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]


def check_values(values: np.ndarray, sizes: Sequence[int]) -> None:
    """Check shape, dtype and range of identifiers.

    Raises:
        ValueError: the shape or dtype is wrong, or a value is out of its position's range.
    """
    if values.ndim != 2 or values.shape[1] != len(sizes):
        raise ValueError(f"identifiers have shape {values.shape}, expected (items, {len(sizes)}); build them again")
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"identifiers have dtype {values.dtype}; give integers")
    for block in blocks(len(values)):
        part = values[block]
        bad = (part < 0) | (part >= np.asarray(sizes))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(
                f"identifier of row {block.start + row}, position {column}: {part[row, column]} is not one of the "
                f"{sizes[column]} values there; build the identifiers again"
            )


def pack(part: np.ndarray, bits: Sequence[int]) -> np.ndarray:
    """Pack (n, j) values into (n,) int64, the first position in the highest bits.

    Args:
        part: (n, j) integers.
        bits: the number of bits of each position, at most 63 in total.
    """
    key = np.zeros(len(part), dtype=np.int64)
    for column, width in zip(part.T, bits, strict=True):
        key <<= width
        key |= column.astype(np.int64)
    return key


def _sort_packed(values: np.ndarray, bits: Sequence[int], row_bits: int) -> tuple[np.ndarray, Columns]:
    """Sort (identifier, row) packed into one integer, from which the values are unpacked again."""
    packed = np.empty(len(values), dtype=np.int64)
    for block in blocks(len(values)):
        packed[block] = pack(values[block], bits) << row_bits
        packed[block] |= np.arange(block.start, block.stop)
    packed.sort()
    order: np.ndarray = np.empty(len(values), dtype=index_dtype(len(values)))
    for block in blocks(len(values)):
        order[block] = packed[block] & ((1 << row_bits) - 1)
    shifts = [row_bits + sum(bits[position + 1 :]) for position in range(len(bits))]

    def columns(block: slice) -> list[np.ndarray]:
        part = packed[block]
        return [part >> shift & ((1 << width) - 1) for shift, width in zip(shifts, bits, strict=True)]

    return order, columns


def _sort_by_words(values: np.ndarray, bits: Sequence[int]) -> tuple[np.ndarray, Columns]:
    """Sort identifiers that do not fit into one integer with their row: by words of 63 bits, most significant first."""
    groups: list[list[int]] = [[]]
    for position, width in enumerate(bits):
        if sum(bits[p] for p in groups[-1]) + width > WORD_BITS:
            groups.append([])
        groups[-1].append(position)
    words = np.empty((len(groups), len(values)), dtype=np.int64)
    for block in blocks(len(values)):
        for word, group in zip(words, groups, strict=True):
            word[block] = pack(values[block][:, group], [bits[position] for position in group])
    places = np.argsort(words[0], kind="stable") if len(words) == 1 else np.lexsort(words[::-1])
    order: np.ndarray = places.astype(index_dtype(len(values)))

    def columns(block: slice) -> list[np.ndarray]:
        return list(np.asarray(values[order[block]]).T)

    return order, columns


def _levels(columns: Columns, order: np.ndarray, sizes: Sequence[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Build the levels: a node begins where a sorted identifier's prefix differs from the previous identifier's.

    Returns:
        The values and first children of :class:`Levels`.

    Raises:
        ValueError: two identifiers are equal.
    """
    length, items = len(sizes), len(order)
    values: list[list[np.ndarray]] = [[] for _ in sizes]
    first_child: list[list[np.ndarray]] = [[] for _ in sizes]
    found = [0] * length  # number of nodes so far, at index depth - 1
    previous: list[np.ndarray] | None = None
    for block in blocks(items):
        part = columns(block)
        begins = np.zeros(block.stop - block.start, dtype=bool)
        begins[0] = previous is None
        parents = np.arange(1 if previous is None else 0)  # the root begins with the first identifier
        for depth, column in enumerate(part):
            begins[1:] |= column[1:] != column[:-1]
            if previous is not None:
                begins[0] |= column[0] != previous[depth]
            # a parent's first child begins at the same identifier as the parent
            place = np.cumsum(begins, dtype=np.int64)
            first_child[depth].append((found[depth] + place[parents] - 1).astype(index_dtype(items)))
            parents = np.flatnonzero(begins)
            values[depth].append(column[parents].astype(value_dtype(sizes[depth])))
            found[depth] += len(parents)
        if len(parents) < len(begins):
            second = block.start + int(np.argmin(begins))
            one, other = sorted((int(order[second - 1]), int(order[second])))
            raise ValueError(f"rows {one} and {other} have the same identifier; build the identifiers again")
        previous = [column[-1] for column in part]
    for depth in range(length):
        first_child[depth].append(np.array([found[depth]], dtype=index_dtype(items)))
    return [np.concatenate(parts) for parts in values], [np.concatenate(parts) for parts in first_child]
