"""Identifiers for items that join a catalogue: their code, and the next number that is free on it (CART 3.2.3).

Numbers of removed items count as taken. Where a code is full, because all symbols reserved for the unique token are
used up, an item takes the nearest code with room: another value on the last level, the nearest first; where no value
there has room, another one on the level before, and so on.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cart_fairseq.identifiers import IdentifierBundle
from cart_fairseq.trie import IdentifierTrie
from preprocess.codec import Codec, ResidualCodec, TransformedCodec, TreeCodec
from preprocess.embeddings import Embeddings
from preprocess.reassign import LevelledCodec


class Placement(NamedTuple):
    """Where new items go.

    Attributes:
        values: (n, J) int32, identifiers that nobody has or had.
        shared: (n,) bool, whether the code the codec gave is that of an item which was there before.
        moved: (n,) bool, whether that code was full, so that another one was taken.
    """

    values: NDArray[np.int32]
    shared: NDArray[np.bool_]
    moved: NDArray[np.bool_]


class Taken:
    """The identifiers that a bundle has given away.

    Args:
        bundle: with its removed items.
        width: C, how many positions the code has.
    """

    def __init__(self, bundle: IdentifierBundle, width: int):
        sizes = [position.size for position in bundle.positions]
        self.values = bundle.values
        self.width = width
        self.digits = sizes[width:]
        self.capacity = math.prod(self.digits)
        self.trie = IdentifierTrie.build(bundle.values, sizes, bundle.offsets.tolist())

    def _leaves(self, codes: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        nodes = self.trie.find(torch.from_numpy(codes))
        begin, end = self.trie.leaves(self.width, nodes.clamp(min=0))
        return begin.numpy(), torch.where(nodes < 0, begin, end).numpy()

    def count(self, codes: NDArray[np.int32]) -> NDArray[np.int64]:
        """How many identifiers each of (n, C) codes has: (n,) int64."""
        begin, end = self._leaves(codes)
        return end - begin

    def free_numbers(self, codes: NDArray[np.int32], wanted: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The smallest numbers that are free on each of (n, C) codes, as many as (n,) wanted, ascending."""
        begin, end = self._leaves(codes)
        count = end - begin
        last = self.numbers(np.maximum(end, 1) - 1)
        gaps = (count > 0) & (last != count - 1)  # what compact freed
        free = [np.arange(first, first + more) for first, more in zip(count, wanted, strict=True)]
        for index in np.flatnonzero(gaps):
            used = self.numbers(np.arange(begin[index], end[index]))
            free[index] = np.setdiff1d(np.arange(count[index] + wanted[index]), used)[: wanted[index]]
        return free

    def numbers(self, leaves: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the unique tokens at some leaves spell: (n,) int64."""
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
    taken = Taken(bundle, codes.shape[1])
    codes = np.array(codes)
    distinct, group, rank = groups_of(codes)
    there = taken.count(distinct)
    moved = rank >= (taken.capacity - there)[group]
    if moved.any():
        staying = np.minimum(np.bincount(group), taken.capacity - there)
        new = {tuple(code): int(count) for code, count in zip(distinct.tolist(), staying, strict=True)}

        def room(options: NDArray[np.int32]) -> NDArray[np.int64]:
            more = np.array([new.get(tuple(option), 0) for option in options.tolist()])
            return taken.capacity - taken.count(options) - more

        search = NearestCode(codec, room)
        for row in tqdm(np.flatnonzero(moved).tolist(), desc="finding codes with room", unit="item", disable=None):
            codes[row] = search.take(np.asarray(embeddings[row : row + 1]), codes[row])
    shared = (there > 0)[group]
    distinct, group, rank = groups_of(codes)
    free = taken.free_numbers(distinct, np.bincount(group))
    numbers = np.array([free[g][r] for g, r in zip(group.tolist(), rank.tolist(), strict=True)], dtype=np.int64)
    return Placement(np.column_stack([codes, taken.spell(numbers)]).astype(np.int32), shared, moved)


def groups_of(codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct codes (m, C); of each row which it has, and how many rows before it have the same: (n,) int64 both."""
    distinct, group = np.unique(codes, axis=0, return_inverse=True)
    group = group.reshape(-1).astype(np.int64)
    order = np.argsort(group, kind="stable")
    starts = np.cumsum(np.bincount(group)) - np.bincount(group)
    rank = np.empty_like(group)
    rank[order] = np.arange(len(group)) - starts[group[order]]
    return distinct, group, rank


class NearestCode:
    """Hands out the nearest code with room.

    Args:
        codec: whose codes they are.
        room: how many identifiers (n, C) codes have left: (n,) int64.
    """

    def __init__(self, codec: Codec, room: Callable[[NDArray[np.int32]], NDArray[np.int64]]):
        self.codec = codec
        self.length = len(codec.positions)
        self.room = room
        self._room: dict[tuple[int, ...], NDArray[np.int64]] = {}
        self._full: set[tuple[int, ...]] = set()

    def take(self, embedding: NDArray[np.floating], code: NDArray[np.int32]) -> tuple[int, ...]:
        """A place on the nearest code with room for an item (1, D), which shares as long a prefix with `code` as can be.

        Raises:
            ValueError: there is none.
        """
        for level in reversed(range(self.length)):
            found = self._below(embedding, tuple(code[:level].tolist()))
            if found is not None:
                return found
        raise ValueError(
            "the symbols reserved for the unique token are used up, and no code has room for another item; build the "
            "identifiers again with a larger --unique-size"
        )

    def _below(self, embedding: NDArray[np.floating], prefix: tuple[int, ...]) -> tuple[int, ...] | None:
        if prefix in self._full:
            return None
        distances = level_distances(self.codec, embedding, prefix)
        nearest = [int(value) for value in np.argsort(distances, kind="stable") if np.isfinite(distances[value])]
        if len(prefix) < self.length - 1:
            for value in nearest:
                found = self._below(embedding, (*prefix, value))
                if found is not None:
                    return found
        else:
            if prefix not in self._room:
                options = [[*prefix, value] for value in range(len(distances))]
                self._room[prefix] = self.room(np.array(options, dtype=np.int32))
            for value in nearest:
                if self._room[prefix][value] > 0:
                    self._room[prefix][value] -= 1
                    return (*prefix, value)
        self._full.add(prefix)
        return None


@torch.inference_mode()
def level_distances(codec: Codec, embedding: NDArray[np.floating], prefix: tuple[int, ...]) -> NDArray[np.floating]:
    """Squared distances of what a prefix leaves of an item to the codewords of the next level.

    Args:
        embedding: (1, D).

    Returns:
        (values,); infinite for a value that no code has here.
    """
    level = len(prefix)
    if isinstance(codec, TransformedCodec):
        return level_distances(codec.inner, codec.transform(embedding), prefix)
    embedding = embedding.astype(np.float32)
    if isinstance(codec, TreeCodec):
        distances = np.full(codec.sizes[level], np.inf, dtype=np.float32)
        node = 0
        for value in prefix:
            node = int(codec.first_child[node]) + value if codec.children[node] else node
        first, children = codec.first_child[node], codec.children[node]
        if not children:
            distances[0] = 0
        distances[:children] = np.square(codec.centres[first : first + children] - embedding).sum(axis=1)
        return distances
    if isinstance(codec, ResidualCodec):
        coarse = bool(codec.clusters)
        if coarse and level == 0:
            return np.square(codec.centres - embedding).sum(axis=1)
        centre = codec.centres[prefix[0] if coarse else 0]
        left = codec.rqvae.encoder(torch.from_numpy((embedding - centre) / np.float32(codec.scale)))
        for codebook, value in zip(codec.rqvae.codebooks, prefix[coarse:], strict=False):
            left = left - codebook[value]
        return (codec.rqvae.codebooks[level - coarse] - left).square().sum(dim=1).numpy()
    levelled: LevelledCodec = codec  # type: ignore[assignment]
    padded = np.array([[*prefix, *[0] * (len(codec.positions) - level)]], dtype=np.int32)
    return levelled.distances(embedding, padded, level)[0]
