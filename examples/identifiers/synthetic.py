"""A catalogue of any size that is drawn while it is read: clustered vectors, always the same."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWN_ROWS = 4096
"""Rows that share a random generator, so that any block can be drawn by itself."""


class ClusteredVectors:
    """Items around Gaussian centres in some of many dimensions; indexed like the embeddings of `preprocess.data.embeddings`.

    Args:
        items: N.
        dimension: D, width of a vector.
        used: dimensions in which centres and items differ; the others are 0.
        centres: number of centres; items are spread over them by chance.
        spread: standard deviation of an item around its centre, where that of the centres is 1.
        seed: of everything.
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
        """(n, D) float16."""
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
