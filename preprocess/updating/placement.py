"""Identifiers for items that join a catalogue: their code, and the next free number on it (CART 3.2.3).

Numbers of removed items count as taken. A code is full when all symbols reserved for the unique token are used up. An item
of a full code takes the nearest code with room (`preprocess.updating.nearest_code`).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.catalogue.trie_build import WORD_BITS, bits_of, blocks, pack
from preprocess.data.embeddings import Embeddings, RowSubset
from preprocess.identifiers.prefix_groups import PrefixGroups
from preprocess.identifiers.schemes.scheme import Codec
from preprocess.updating.nearest_code import nearest_codes


class Placement(NamedTuple):
    """Identifiers of new items.

    Attributes:
        values: (n, J) int32, identifiers that no item has or had.
        shared: (n,) bool, whether the code the codec gave is that of an item which was there before.
        moved: (n,) bool, whether that code was full, so that another one was taken.
    """

    values: NDArray[np.int32]
    shared: NDArray[np.bool_]
    moved: NDArray[np.bool_]


class Taken:
    """The identifiers of a bundle that are taken, as far as they begin with certain prefixes.

    Args:
        bundle: with its removed items.
        width: C, how many positions the code has.
        prefixes: (m, w) int32, w from 0 to C. Identifiers with other prefixes are not looked at.
    """

    def __init__(self, bundle: IdentifierBundle, width: int, prefixes: NDArray[np.int32]):
        sizes = [position.size for position in bundle.positions]
        self.values = bundle.values
        self.width = width
        self.prefixes = prefixes
        self.digits = sizes[width:]
        self.capacity = math.prod(self.digits)
        rows = rows_beginning_with(self.values, prefixes, sizes)
        self.trie = IdentifierTrie.build(self.values[rows], sizes, bundle.offsets.tolist(), rows) if len(rows) else None

    def _leaves(self, codes: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self.trie is None:
            return np.zeros(len(codes), dtype=np.int64), np.zeros(len(codes), dtype=np.int64)
        nodes = self.trie.find(torch.from_numpy(codes))
        begin, end = self.trie.leaves(self.width, nodes.clamp(min=0))
        return begin.numpy(), torch.where(nodes < 0, begin, end).numpy()

    def count(self, codes: NDArray[np.int32]) -> NDArray[np.int64]:
        """How many identifiers each of (n, C) codes has: (n,) int64."""
        begin, end = self._leaves(codes)
        return end - begin

    def free_numbers(self, codes: NDArray[np.int32], wanted: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The smallest free numbers of each of (n, C) codes, as many as (n,) wanted, ascending."""
        begin, end = self._leaves(codes)
        count = end - begin
        free = [np.arange(first, first + more) for first, more in zip(count, wanted, strict=True)]
        there = np.flatnonzero(count)
        for index in there[self.numbers(end[there] - 1) != count[there] - 1]:  # compact has freed some
            used = self.numbers(np.arange(begin[index], end[index]))
            free[index] = np.setdiff1d(np.arange(count[index] + wanted[index]), used)[: wanted[index]]
        return free

    def numbers(self, leaves: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers that the unique tokens at some leaves spell: (n,) int64."""
        if self.trie is None:
            return leaves
        digits = np.asarray(self.values[self.trie.rows[torch.from_numpy(leaves)].numpy()], dtype=np.int64)
        number = np.zeros(len(leaves), dtype=np.int64)
        for digit, size in zip(digits[:, self.width :].T, self.digits, strict=True):
            number = number * size + digit
        return number

    def spell(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        """Unique tokens of (n,) numbers: (n, digits) int32; the inverse of `numbers`."""
        digits = np.empty((len(numbers), len(self.digits)), dtype=np.int32)
        for place in reversed(range(len(self.digits))):
            numbers, digits[:, place] = np.divmod(numbers, self.digits[place])
        return digits


def place(bundle: IdentifierBundle, codec: Codec, embeddings: Embeddings, codes: NDArray[np.int32]) -> Placement:
    """Give new items identifiers, in row order.

    Args:
        bundle: the catalogue they join.
        codec: the bundle's.
        embeddings: (n, D), looked at only where a code is full.
        codes: (n, C) int32 of the codec.

    Raises:
        ValueError: no code has room for an item.
    """
    width, codes = codes.shape[1], np.array(codes)
    distinct, group, rank = groups_of(codes)
    taken = Taken(bundle, width, distinct)
    there = taken.count(distinct)
    shared = (there > 0)[group]
    moved = rank >= (taken.capacity - there)[group]
    if moved.any():
        staying = np.minimum(np.bincount(group), taken.capacity - there)
        near = Room(bundle, distinct, staying, np.unique(codes[moved, :1], axis=0))
        codes[moved] = nearest_codes(codec, RowSubset(embeddings, np.flatnonzero(moved)), codes[moved], near)
        distinct, group, rank = groups_of(codes)
        taken = Taken(bundle, width, distinct)
    free = taken.free_numbers(distinct, np.bincount(group))
    numbers = np.array([free[g][r] for g, r in zip(group.tolist(), rank.tolist(), strict=True)], dtype=np.int64)
    return Placement(np.column_stack([codes, taken.spell(numbers)]).astype(np.int32), shared, moved)


class Room:
    """How many identifiers codes have left.

    Args:
        bundle: whose codes they are.
        codes, counts: (m, C) codes and how many new items (m,) have them already.
        first: (n, w) int32, prefixes of the codes that are most likely asked for.
    """

    def __init__(
        self, bundle: IdentifierBundle, codes: NDArray[np.int32], counts: NDArray[np.int64], first: NDArray[np.int32]
    ):
        self.bundle = bundle
        self.new = {tuple(code): count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)}
        self.taken = Taken(bundle, codes.shape[1], first)

    def __call__(self, prefix: tuple[int, ...], values: int) -> NDArray[np.int64]:
        """Of each code that has all values but the last in common: (values,) int64."""
        options = np.array([[*prefix, value] for value in range(values)], dtype=np.int32)
        known = self.taken.prefixes
        if not (known == options[:1, : known.shape[1]]).all(axis=1).any():
            self.taken = Taken(self.bundle, options.shape[1], known[:1, :0])
        new = np.array([self.new.get(tuple(option), 0) for option in options.tolist()])
        return self.taken.capacity - self.taken.count(options) - new


def rows_beginning_with(
    values: NDArray[np.int32], prefixes: NDArray[np.int32], sizes: Sequence[int]
) -> NDArray[np.int64]:
    """Rows of (N, J) identifiers that begin with one of (m, w) prefixes, and perhaps some more: (n,) int64, ascending.

    A prefix of more than 63 bits is compared as far as those go.
    """
    bits = bits_of(sizes[: prefixes.shape[1]])
    while sum(bits) > WORD_BITS:
        bits.pop()
    if not bits:
        return np.arange(len(values))
    width = len(bits)
    wanted = pa.array(pack(prefixes[:, :width], bits))
    found = [
        block.start
        + np.flatnonzero(pc.is_in(pa.array(pack(values[block, :width], bits)), value_set=wanted).to_numpy(False))
        for block in blocks(len(values))
    ]
    return np.concatenate(found)


def groups_of(codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct codes (m, C); of each row which it has, and how many rows before it have the same: (n,) int64 both."""
    groups = PrefixGroups.of(codes)
    rank = np.empty(len(codes), dtype=np.int64)
    rank[groups.order] = np.arange(len(codes)) - np.repeat(groups.starts[:-1], groups.sizes)
    return codes[groups.order[groups.starts[:-1]]], groups.of_row(), rank
