"""The positions of an identifier (CART 3.2), and the values of the last: the unique token u (CART 3.2.3)."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from cart_fairseq.catalogue.trie_build import blocks, sort_rows


@dataclasses.dataclass(frozen=True)
class Position:
    """One position of every identifier: its name (``k``, ``v1`` … ``u``) and its number of possible values."""

    name: str
    size: int

    def symbol(self, value: int) -> str:
        """Return the dictionary's word for a value, e.g. ``<v1_3>``."""
        return f"<{self.name}_{value}>"


def semantic_positions(positions: Sequence[Position]) -> tuple[Position, ...]:
    """The positions that carry meaning: all before the unique token ``u``, or ``u1`` ….

    In scheme ``atomic`` an identifier has only the unique token; then all positions are returned.
    """
    semantic = tuple(position for position in positions if not re.fullmatch(r"u\d*", position.name))
    return semantic or tuple(positions)


def unique_tokens(codes: np.ndarray, unique_size: int = 128) -> np.ndarray:
    """Number the items that share a code, in row order from 0: the unique token u (CART 3.2.3).

    Args:
        codes: (N, C) integers, the semantic part of each identifier.
        unique_size: symbols reserved per digit of u, at least 2.

    Returns:
        (N, digits) int32. There is one digit unless more than ``unique_size`` items share a code. Then every number is
        written in base ``unique_size`` with as many digits as the largest needs, most significant first.

    Raises:
        ValueError: ``unique_size`` is below 2.
    """
    if unique_size < 2:
        raise ValueError(f"--unique-size is {unique_size}; reserve at least 2 symbols for the unique token")
    rows = len(codes)
    order, columns = sort_rows(codes, [int(most) + 1 for most in codes.max(axis=0)] if rows else [1] * codes.shape[1])
    first = np.ones(rows, dtype=bool)
    for block in blocks(rows - 1):  # compare each sorted code with the next
        part = columns(slice(block.start, block.stop + 1))
        first[block.start + 1 : block.stop + 1] = np.any([column[1:] != column[:-1] for column in part], axis=0)
    places = np.arange(rows)
    counts = np.empty(rows, dtype=np.int64)
    counts[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    digits = 1
    while rows and counts.max() >= unique_size**digits:
        digits += 1
    powers = unique_size ** np.arange(digits - 1, -1, -1)
    return ((counts[:, None] // powers) % unique_size).astype(np.int32)


def unique_positions(digits: int, unique_size: int) -> list[Position]:
    """Positions of the unique token: ``u``, or ``u1`` … if it has several digits."""
    return [Position("u" if digits == 1 else f"u{i + 1}", unique_size) for i in range(digits)]
