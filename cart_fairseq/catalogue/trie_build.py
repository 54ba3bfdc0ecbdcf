"""From an array of identifiers to the flat levels of their prefix tree, in blocks and without a Python object a node.

Identifiers are packed into one integer each, together with their row where 63 bits hold both, so that a single sort of
plain integers orders them; levels are then read off neighbouring identifiers, one block after another.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

BLOCK = 1 << 20
WORD_BITS = 63


class Levels(NamedTuple):
    """The sorted identifiers, level by level.

    Attributes:
        values: per depth d, the value of each node of depth d + 1; uint8, int16 or int32.
        first_child: per depth d, where the children of each node of depth d begin, and the end; int32 or int64.
        order: (N,) int32 or int64, sorted place -> row of the input.
    """

    values: list[np.ndarray]
    first_child: list[np.ndarray]
    order: np.ndarray


def build_levels(values: np.ndarray, sizes: Sequence[int]) -> Levels:
    """Sort identifiers and take them apart.

    Args:
        values: (N, J) integers, read in blocks, so a memory map does; one distinct identifier a row.
        sizes: how many values each position can take.

    Raises:
        ValueError: a value lies outside its position, or two identifiers are equal; the message names the rows.
    """
    check_values(values, sizes)
    order, columns = sort_rows(values, sizes)
    return Levels(*_levels(columns, order, sizes), order)


Columns = Callable[[slice], list[np.ndarray]]


def sort_rows(values: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, Columns]:
    """Sort rows of values that lie inside their positions; equal rows stay in their order.

    Returns:
        (N,) int32 or int64, sorted place -> row; and a function from a block of sorted places to their values, an array
        for each position.
    """
    bits = bits_of(sizes)
    row_bits = max(1, (len(values) - 1).bit_length())
    if sum(bits) + row_bits <= WORD_BITS:
        return _sort_packed(values, bits, row_bits)
    return _sort_by_words(values, bits)


def bits_of(sizes: Sequence[int]) -> list[int]:
    """How many bits the values of each position need, at least one."""
    return [max(1, (size - 1).bit_length()) for size in sizes]


def value_dtype(size: int) -> type:
    """The smallest dtype, of those that torch indexes everywhere, for values below ``size``."""
    return np.uint8 if size <= 1 << 8 else np.int16 if size <= 1 << 15 else np.int32


def index_dtype(count: int) -> type:
    """The smallest dtype for indices up to and including ``count``."""
    return np.int32 if count < 1 << 31 else np.int64


def blocks(length: int) -> list[slice]:
    """Slices that cover ``length`` rows."""
    return [slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]


def check_values(values: np.ndarray, sizes: Sequence[int]) -> None:
    """Refuse values that lie outside their position."""
    if values.ndim != 2 or values.shape[1] != len(sizes):
        raise ValueError(f"identifiers have shape {values.shape}, expected (items, {len(sizes)})")
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
    """(n, j) values of so many bits, 63 at most together, as (n,) int64, the first position in the highest bits."""
    key = np.zeros(len(part), dtype=np.int64)
    for column, width in zip(part.T, bits, strict=True):
        key <<= width
        key |= column.astype(np.int64)
    return key


def _sort_packed(values: np.ndarray, bits: Sequence[int], row_bits: int) -> tuple[np.ndarray, Columns]:
    """Sort (identifier, row) as one integer; what positions hold is read back from it."""
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
    """Sort identifiers too long for one integer beside their row: by several words, most significant first."""
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
    """Nodes begin where a sorted identifier differs from the one before it, at this position or an earlier one."""
    length, items = len(sizes), len(order)
    values: list[list[np.ndarray]] = [[] for _ in sizes]
    first_child: list[list[np.ndarray]] = [[] for _ in sizes]
    found = [0] * length  # nodes so far, per depth - 1
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
            # a parent's first child is the node that begins where the parent does
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
