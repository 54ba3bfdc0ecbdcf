"""A synthetic catalogue of any size: clustered vectors, which are generated when they are read."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWN_ROWS = 4096
"""Rows per random generator, so that each block can be generated separately."""


class ClusteredVectors:
    """Items around Gaussian centres. It has the interface of `preprocess.data.embeddings.Embeddings`.

    Args:
        items: N.
        dimension: D, width of a vector.
        used: number of dimensions in which centres and items differ. The others are 0.
        centres: number of centres. Each item belongs to a random one.
        spread: standard deviation of an item around its centre; that of the centres is 1.
        seed: seed of all random numbers.
    """

    def __init__(
        self,
        items: int,
        dimension: int = 1024,
        used: int = 64,
        centres: int = 2000,
        spread: float = 0.3,
        seed: int = 1,
    ):
        self.shape: tuple[int, int] = (items, dimension)
        self.dtype = np.dtype(np.float16)
        self.ndim = 2
        self.seed = seed
        self.spread = spread
        self.centres = np.random.default_rng(seed).standard_normal((centres, used), dtype=np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.float16]:
        """Return the chosen rows, (n, D) float16."""
        wanted = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        out = np.zeros((len(wanted), self.shape[1]), dtype=np.float16)
        group = wanted // DRAWN_ROWS
        for number in np.unique(group):
            here = group == number
            out[here, : self.centres.shape[1]] = self._draw(int(number))[wanted[here] - number * DRAWN_ROWS]
        return out

    def _draw(self, group: int) -> NDArray[np.float32]:
        draw = np.random.default_rng([self.seed, group])
        around = self.centres[draw.integers(len(self.centres), size=DRAWN_ROWS)]
        return around + self.spread * draw.standard_normal(around.shape, dtype=np.float32)
