"""Companion captions: for a training caption, another caption of the same item, drawn anew in each epoch."""

import numpy as np
from numpy.typing import NDArray


class Companions:
    """Draws, for a training pair or an item, a random caption of the item.

    Args:
        item_rows: (n,) int64, the item row of each training pair.
        known: (n,) bool, whether the pair's caption has features; captions without features are never drawn. Kept as an
            attribute.
    """

    def __init__(self, item_rows: NDArray[np.int64], known: NDArray[np.bool_]):
        self.known = known
        pairs = np.flatnonzero(known)
        self.pairs = pairs[np.argsort(item_rows[pairs], kind="stable")]
        self.owners = item_rows[self.pairs]
        self.begin, self.count = self._of(item_rows)
        place = np.full(len(item_rows), -1)
        place[self.pairs] = np.arange(len(pairs))
        self.place = place - np.where(place >= 0, self.begin, 0)

    def draw(self, pairs: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.int64]:
        """Draw for each of (n,) pairs another pair of its item, uniformly: (n,) int64, or -1 if there is none."""
        if not len(self.pairs):
            return np.full(len(pairs), -1)
        own, others = self.place[pairs], self.count[pairs]
        others = others - (own >= 0)
        chosen = (draw.random(len(pairs)) * others).astype(np.int64)
        chosen += (own >= 0) & (chosen >= own)
        found = self.pairs[np.where(others > 0, self.begin[pairs] + chosen, 0)]
        return np.where(others > 0, found, -1)

    def of_items(self, rows: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.int64]:
        """Draw for each of (n,) item rows one of its pairs, uniformly: (n,) int64, or -1 if there is none."""
        if not len(self.pairs):
            return np.full(len(rows), -1)
        begin, count = self._of(rows)
        chosen = begin + (draw.random(len(rows)) * count).astype(np.int64)
        return np.where(count > 0, self.pairs[np.where(count > 0, chosen, 0)], -1)

    def _of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each item row, the index of its first pair in ``self.pairs`` and the number of its pairs."""
        begin = np.searchsorted(self.owners, rows, side="left")
        return begin, np.searchsorted(self.owners, rows, side="right") - begin
