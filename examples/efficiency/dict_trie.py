"""The prefix tree that users of fairseq's and Hugging Face's constrained search write: a Python dictionary."""

import numpy as np
from catalogue import Catalogue


class DictTrie:
    """Prefix (the start symbol, then symbols of the target dictionary) -> list of the symbols that may follow.

    Args:
        catalogue: the valid identifiers.
        start: what the decoder begins with, and what ends an identifier.
    """

    def __init__(self, catalogue: Catalogue, start: int):
        self.end = [start]
        self.allowed: dict[tuple[int, ...], list[int]] = {}
        sizes = catalogue.sizes
        symbols = np.arange(catalogue.offsets[-1] + sizes[-1]).astype(object)  # one Python integer a symbol, shared
        codes = np.sort(np.ravel_multi_index(tuple(catalogue.values.T), sizes))
        prefixes: list[tuple[int, ...]] = [(start,)]
        for depth, (size, offset) in enumerate(zip(sizes, catalogue.offsets, strict=True)):
            below = int(np.prod(sizes[depth + 1 :], dtype=np.int64))
            nodes = codes // below
            nodes = nodes[np.append(True, nodes[1:] != nodes[:-1])]
            following = symbols[nodes % size + offset].tolist()
            parents = nodes // size
            starts = np.flatnonzero(np.append(True, parents[1:] != parents[:-1])).tolist()
            groups = [following[a:b] for a, b in zip(starts, [*starts[1:], len(nodes)], strict=True)]
            self.allowed.update(zip(prefixes, groups, strict=True))
            if depth + 1 < len(sizes):
                prefixes = [(*prefix, s) for prefix, group in zip(prefixes, groups, strict=True) for s in group]

    def __call__(self, prefix: tuple[int, ...]) -> list[int]:
        """The symbols that may follow; only the end after a whole identifier."""
        return self.allowed.get(prefix, self.end)


def bytes_needed(catalogue: Catalogue) -> int:
    """About how much memory a :class:`DictTrie` takes: a tuple, a list and a slot for each node, a place for each child."""
    inner = sum(min(len(catalogue), int(np.prod(catalogue.sizes[:depth]))) for depth in range(len(catalogue.sizes)))
    return 320 * inner + 8 * len(catalogue)
