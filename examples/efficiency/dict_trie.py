"""A prefix tree as a Python dictionary, as is common with fairseq's and Hugging Face's constrained search."""

import numpy as np
from catalogue import Catalogue


class DictTrie:
    """Maps a prefix (the start symbol and symbols of the target dictionary) to the list of allowed next symbols.

    Args:
        catalogue: the valid identifiers.
        start: the symbol before and after an identifier.
    """

    def __init__(self, catalogue: Catalogue, start: int):
        self.end = [start]
        self.allowed: dict[tuple[int, ...], list[int]] = {}
        sizes = catalogue.sizes
        symbols = np.arange(catalogue.offsets[-1] + sizes[-1]).astype(object)  # one Python integer per symbol, shared
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
        """Return the allowed next symbols. After a complete identifier it is the end."""
        return self.allowed.get(prefix, self.end)


def bytes_needed(catalogue: Catalogue) -> int:
    """Estimate the memory of a :class:`DictTrie`: a tuple, list and slot for each node, and an entry for each child."""
    inner = sum(min(len(catalogue), int(np.prod(catalogue.sizes[:depth]))) for depth in range(len(catalogue.sizes)))
    return 320 * inner + 8 * len(catalogue)
