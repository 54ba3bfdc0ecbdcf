"""Resolves collisions by moving items to free codes near by, instead of by the unique token alone.

The nearest item of each code keeps it. The others move to free codes with the same prefix, on the last level. If a prefix
is full, its items move to the nearest prefixes with room, which differ on the last level but one, and so on. The first
value never changes. Moves are chosen greedily: an item takes the nearest value with room. If too many items want the same
value, those get it that lose least. An item without room keeps its code; the unique token tells it apart.
"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base import disk
from cart_fairseq.base.progress import track
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.identifiers.prefix_groups import PrefixGroups
from preprocess.identifiers.schemes.scheme import Codec

CONSIDERED = 1024
"""Most items of a prefix that may move, or four for each free place if that is more: the first in row order."""


@dataclass(frozen=True)
class Reassignment:
    """Codes after the moves.

    codes: (N, C) int32.
    moved: for each of the C levels, how many items changed their value on it, and no value before it.
    """

    codes: NDArray[np.int32]
    moved: list[int]


def move_to_free_codes(
    codec: Codec, embeddings: Embeddings, codes: NDArray[np.int32], folder: Path | None = None
) -> Reassignment:
    """Move items that share a code to free ones.

    Args:
        codec: gave the codes. Its scheme is movable: every combination of codewords is a code.
        embeddings: (N, D) float16 or float32, read in blocks, at most once for each pair of levels.
        codes: (N, C) int32; not changed.
        folder: where a temporary file of float32 distances may lie, one row for each item that shares its code.
    """
    codes = np.array(codes)
    levels = codes.shape[1]
    moved = [0] * levels
    for level in range(levels - 1, min(1, levels - 1) - 1, -1):
        groups = PrefixGroups.of(codes)
        rows = np.sort(groups.order[np.repeat(groups.sizes > 1, groups.sizes)])
        for deeper in range(level, levels):
            if not len(rows):
                break
            chosen = choose_values(codec, embeddings, codes, rows, deeper, leave=deeper == level, folder=folder)
            rows, chosen = rows[chosen >= 0], chosen[chosen >= 0]
            codes[rows, deeper] = chosen
        moved[level] = len(rows)
    return Reassignment(codes, moved)


def choose_values(
    codec: Codec,
    embeddings: Embeddings,
    codes: NDArray[np.int32],
    rows: NDArray[np.int64],
    level: int,
    leave: bool,
    folder: Path | None,
) -> NDArray[np.int32]:
    """Values of some items on one level, given those before, such that every value has room for them.

    Args:
        codes: (N, C) int32 of all items. If not `leave`, the values of `rows` on and below `level` do not count.
        rows: (n,) int64, ascending: items that share a code.
        leave: True: the items are still on their codes and may leave them; False: they left on a level before.

    Returns:
        (n,) int32; -1 for an item that keeps its code.
    """
    groups = PrefixGroups.of(codes[:, :level])
    of_row = groups.of_row()
    wanted, slot = np.unique(of_row[rows], return_inverse=True)
    room = free_codes(codec, codes, of_row, wanted, level, without=None if leave else rows)
    order = np.argsort(slot, kind="stable")
    begin = np.flatnonzero(np.diff(slot[order], prepend=-1))
    rank = np.arange(len(rows)) - np.repeat(begin, np.diff(np.append(begin, len(rows))))
    places = room.sum(axis=1)
    most = np.where(places > 0, np.maximum(CONSIDERED, 4 * places), 0)
    order = order[rank < most[slot[order]]]
    choice = np.full(len(rows), -1, dtype=np.int32)
    if not len(order):
        return choice
    with tempfile.TemporaryFile(dir=folder) as file:
        with disk.naming(folder or tempfile.gettempdir()):
            disk.reserve(file.fileno(), 4 * len(order) * codec.codewords[level])
        distances = np.memmap(file, dtype=np.float32, mode="r+", shape=(len(order), codec.codewords[level]))
        fill_distances(distances, codec, embeddings, codes, rows[order], level)
        parts = np.split(np.arange(len(order)), np.flatnonzero(np.diff(slot[order])) + 1)
        for part in track(parts, f"moving on level {level + 1}", "prefixes"):
            here, cost = order[part], np.array(distances[part[0] : part[-1] + 1])
            if leave:
                own = cost[np.arange(len(here)), codes[rows[here], level]]
                may = all_but_nearest(codes[rows[here]], own)
                here, cost = here[may], cost[may] - own[may][:, None]
            choice[here] = choose_greedily(cost, room[slot[order[part[0]]]])
    return choice


def free_codes(
    codec: Codec,
    codes: NDArray[np.int32],
    of_row: NDArray[np.int64],
    wanted: NDArray[np.int64],
    level: int,
    without: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """How many codes no item has, for each wanted prefix and each value after it.

    Args:
        of_row: (N,) int64, every item's prefix.
        wanted: (n,) int64 prefixes, ascending.
        level: the length of the prefixes.
        without: rows whose codes are not occupied.

    Returns:
        (n, codewords) int64.
    """
    occupying = np.isin(of_row, wanted)
    if without is not None:
        occupying[without] = False
    rows = np.flatnonzero(occupying)
    groups = PrefixGroups.of(codes[rows])
    one_of_each = rows[groups.order[groups.starts[:-1]]] if len(rows) else rows
    below = min(math.prod(codec.codewords[level + 1 :]), 2**62)
    room = np.full((len(wanted), codec.codewords[level]), below, dtype=np.int64)
    np.subtract.at(room, (np.searchsorted(wanted, of_row[one_of_each]), codes[one_of_each, level]), 1)
    return room


def fill_distances(
    distances: NDArray[np.float32],
    codec: Codec,
    embeddings: Embeddings,
    codes: NDArray[np.int32],
    rows: NDArray[np.int64],
    level: int,
) -> None:
    """Write `codec.distances` of (n,) rows, in any order, to (n, codewords) float32; reads embeddings in row order."""
    order = np.argsort(rows)
    ascending = rows[order]
    for block in blocks(*embeddings.shape):
        part = slice(*np.searchsorted(ascending, [block.start, block.stop]))
        here = ascending[part]
        if len(here):
            points = np.asarray(embeddings[block])[here - block.start]
            distances[order[part]] = codec.distances(points, codes[here, :level])


def all_but_nearest(codes: NDArray[np.int32], own: NDArray[np.float32]) -> NDArray[np.int64]:
    """Items that may leave their code: of each code all but the nearest item, of equally near ones the first.

    Args:
        codes: (n, C) int32.
        own: (n,) float32, each item's distance.

    Returns:
        Places in 0..n-1, ascending.
    """
    order = np.lexsort([np.arange(len(codes)), own, *codes.T[::-1]])
    ordered = codes[order]
    leaves = np.concatenate([[False], (ordered[1:] == ordered[:-1]).all(axis=1)])
    return np.sort(order[leaves])


def choose_greedily(cost: NDArray[np.float32], room: NDArray[np.int64]) -> NDArray[np.int32]:
    """Give items values, greedily and no value more items than it has room for.

    In every round each item asks for the cheapest value with room; of more items than fit, the cheapest are taken.

    Args:
        cost: (n, V) float32.
        room: (V,) int64.

    Returns:
        (n,) int32; -1 where there was no room left.

    >>> choose_greedily(np.array([[1, 5, 9], [2, 3, 9], [0, 8, 9]], dtype=np.float32), np.array([1, 1, 0]))
    array([-1,  1,  0], dtype=int32)
    """
    room = room.copy()
    choice = np.full(len(cost), -1, dtype=np.int32)
    waiting = np.arange(len(cost))
    while len(waiting) and room.any():
        values = np.flatnonzero(room)
        asked = cost[np.ix_(waiting, values)]
        best = asked.argmin(axis=1)
        price, best = asked[np.arange(len(waiting)), best], values[best]
        order = np.lexsort([waiting, price, best])
        first = np.searchsorted(best[order], best[order])
        taken = order[np.arange(len(order)) - first < room[best[order]]]
        choice[waiting[taken]] = best[taken]
        room -= np.bincount(best[taken], minlength=len(room))
        waiting = np.delete(waiting, taken)
    return choice
