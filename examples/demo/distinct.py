"""Draw scenes that differ enough for their descriptions to be unambiguous."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np


def count_differences(found: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return the number of attributes in which each earlier scene differs: (N, A) and (A,) integers -> (N,)."""
    return (found != new).sum(1, dtype=np.int8)


def draw_distinct(
    tables: Sequence[Sequence[str] | Mapping[str, object]],
    count: int,
    seed: int,
    differences: int,
    settle: Callable[[np.ndarray], bool] = lambda new: True,
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray] = count_differences,
) -> list[list[str]]:
    """Draw scenes, an attribute from each table, and keep those that differ enough from all earlier ones.

    Args:
        tables: the possible values of each attribute.
        count: number of scenes.
        seed: seed of the draws.
        differences: minimum distance of any two scenes.
        settle: may change a new scene, (A,) indices of values, in place. It returns False to reject the scene.
        distance: computes the distances of all earlier scenes to a new one. Default: number of differing attributes.

    Raises:
        ValueError: there are not so many scenes that differ enough.
    """
    generator = np.random.default_rng(seed)
    names = [list(table) for table in tables]
    sizes = [len(table) for table in names]
    found = np.empty((count, len(names)), dtype=np.int64, order="F")  # comparisons are by attribute
    drawn = 0
    for _ in range(200 * count):
        if drawn == count:
            break
        new = generator.integers(sizes)
        if settle(new) and (distance(found[:drawn], new) >= differences).all():
            found[drawn] = new
            drawn += 1
    if drawn < count:
        raise ValueError(f"--items is {count}, but only about {drawn} scenes differ enough; lower --items")
    return [[table[value] for table, value in zip(names, row, strict=True)] for row in found]
