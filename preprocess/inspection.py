"""What identifiers say about the items behind them: who shares a prefix, and whether neighbours do (CART 4.4)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cart_fairseq.identifiers import Position
from preprocess.embeddings import Embeddings, blocks


def semantic_positions(positions: Sequence[Position]) -> list[Position]:
    """The positions that come before the unique token; all of them where there is nothing else (scheme atomic)."""
    semantic = [position for position in positions if not re.fullmatch(r"u\d*", position.name)]
    return semantic or list(positions)


@dataclass(frozen=True)
class PrefixGroups:
    """The items of a catalogue, sorted into groups that share a prefix.

    order: (N,) int64 rows, group after group, ascending inside each.
    starts: (groups + 1,) int64, where each group begins in `order`, and the end.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, prefixes: NDArray[np.int32]) -> "PrefixGroups":
        """Group the rows of (N, L) int32 that are equal, in ascending order of the prefix."""
        order = np.lexsort(prefixes.T[::-1]) if prefixes.shape[1] else np.arange(len(prefixes))
        ordered = prefixes[order]
        first = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
        return cls(order, np.concatenate([[0], first, [len(order)]]))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(groups,) int64, how many items share each prefix."""
        return np.diff(self.starts)

    def rows(self, group: int) -> NDArray[np.int64]:
        """The rows of a group, ascending."""
        return self.order[self.starts[group] : self.starts[group + 1]]

    def of_row(self) -> NDArray[np.int64]:
        """(N,) int64, the group of each row."""
        groups = np.empty(len(self.order), dtype=np.int64)
        groups[self.order] = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return groups

    def largest(self, count: int) -> list[int]:
        """The groups with the most items and at least two, largest first, at most `count`."""
        sizes = self.sizes
        best = np.argsort(-sizes, kind="stable")[:count]
        return [int(group) for group in best if sizes[group] > 1]

    def drawn(self, count: int, seed: int) -> list[int]:
        """At most `count` groups of at least two items: those of items drawn by chance, so large ones come more often."""
        of_row, sizes = self.of_row(), self.sizes
        drawn = of_row[np.random.default_rng(seed).permutation(len(of_row))]
        groups, first = np.unique(drawn[sizes[drawn] > 1], return_index=True)
        return [int(group) for group in groups[np.argsort(first)][:count]]


@dataclass(frozen=True)
class Agreement:
    """How often neighbours share the first `length` tokens.

    length: of the prefix.
    share: share of the nearest neighbours that have the item's prefix, a mean over the items looked at.
    chance: the same for any two items of the catalogue.
    """

    length: int
    share: float
    chance: float


def nearest_rows(embeddings: Embeddings, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The nearest other items of some items by Euclidean distance, searched exhaustively in blocks.

    Args:
        embeddings: (N, D) float16 or float32.
        rows: (Q,) the items whose neighbours are wanted.
        count: how many, less than N.

    Returns:
        (Q, count) int64 rows, nearest first.
    """
    queries = np.asarray(embeddings[rows], dtype=np.float32)
    shift = queries.mean(axis=0)  # distances far from the origin lose their digits in float32
    queries = queries - shift
    best = np.full((len(rows), count), np.inf, dtype=np.float32)
    nearest = np.full((len(rows), count), -1, dtype=np.int64)
    here = list(blocks(len(embeddings), max(embeddings.shape[1], len(rows))))
    for block in tqdm(here, desc="neighbours", unit="block", disable=None):
        items = np.asarray(embeddings[block], dtype=np.float32) - shift
        distances = np.square(items).sum(axis=1) - 2 * (queries @ items.T)
        inside = np.flatnonzero((rows >= block.start) & (rows < block.stop))
        distances[inside, rows[inside] - block.start] = np.inf
        all_distances = np.concatenate([best, distances], axis=1)
        numbers = np.broadcast_to(np.arange(block.start, block.stop), distances.shape)
        all_rows = np.concatenate([nearest, numbers], axis=1)
        chosen = np.argpartition(all_distances, count - 1, axis=1)[:, :count]
        best, nearest = (np.take_along_axis(array, chosen, axis=1) for array in (all_distances, all_rows))
    return np.take_along_axis(nearest, np.argsort(best, axis=1, kind="stable"), axis=1)


def neighbour_agreement(
    embeddings: Embeddings, codes: NDArray[np.int32], neighbours: int, sample: int, seed: int
) -> list[Agreement]:
    """Whether near items have like identifiers.

    Args:
        embeddings: (N, D) float16 or float32, N at least 2.
        codes: (N, C) int32, the semantic values.
        neighbours: how many nearest neighbours of an item are looked at; all others where there are fewer.
        sample: how many items, drawn with `seed`, are looked at.

    Returns:
        One `Agreement` for each prefix length 1..C.
    """
    total = len(codes)
    rows = np.sort(np.random.default_rng(seed).permutation(total)[:sample])
    nearest = nearest_rows(embeddings, rows, min(neighbours, total - 1))
    same = np.ones(nearest.shape, dtype=bool)
    found = []
    for level in range(codes.shape[1]):
        column = codes[:, level]
        same &= column[nearest] == column[rows][:, None]
        sizes = PrefixGroups.of(codes[:, : level + 1]).sizes
        chance = float((sizes * (sizes - 1.0)).sum() / (total * (total - 1.0)))
        found.append(Agreement(level + 1, float(same.mean()), chance))
    return found
