"""Drawing scenes that are all different enough to be told apart by their descriptions."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np


def count_differences(found: np.ndarray, new: np.ndarray) -> np.ndarray:
    """In how many attributes each earlier scene differs: (N, A) and (A,) integers to (N,)."""
    return (found != new).sum(1, dtype=np.int8)


def draw_distinct(
    tables: Sequence[Sequence[str] | Mapping[str, object]],
    count: int,
    seed: int,
    differences: int,
    settle: Callable[[np.ndarray], bool] = lambda new: True,
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray] = count_differences,
) -> list[list[str]]:
    """Draw an attribute from each table, again and again; keep what differs from all that is there.

    Args:
        tables: the names that each attribute may have.
        differences: any two scenes are at least so far apart.
        settle: may change a new scene, (A,) numbers of names, in place; False refuses it.
        distance: of all scenes so far to a new one; the number of differing attributes if not given.

    Raises:
        ValueError: there is no room for so many scenes.
    """
    generator = np.random.default_rng(seed)
    names = [list(table) for table in tables]
    sizes = [len(table) for table in names]
    found = np.empty((count, len(names)), dtype=np.int64, order="F")  # comparisons go attribute by attribute
    drawn = 0
    for _ in range(200 * count):
        if drawn == count:
            break
        new = generator.integers(sizes)
        if settle(new) and (distance(found[:drawn], new) >= differences).all():
            found[drawn] = new
            drawn += 1
    if drawn < count:
        raise ValueError(f"--items is {count}; this world has room for about {drawn} scenes that differ enough")
    return [[table[value] for table, value in zip(names, row, strict=True)] for row in found]
