"""How often neighbours among the items share a prefix of their identifiers (CART 4.4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.progress import track
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.identifiers.prefix_groups import PrefixGroups


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
    for block in track(here, "neighbours", "blocks"):
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
