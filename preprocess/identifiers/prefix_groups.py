"""Items sorted into groups that share the first values of their identifiers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
