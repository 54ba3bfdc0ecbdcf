"""Embeddings with all dimensions on one scale: the third part of a joined row, with `keep_embedding`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler, normalize

from preprocess.data.embeddings import Embeddings, blocks
from preprocess.join.text_space import LEAST_SPREAD


@dataclass
class Standardised:
    """Each dimension less its mean, over its standard deviation; then rows of length 1.

    Where no value of the sample is negative, as of rectified features, square roots come first (Perronnin et al.,
    2010): a few large values would decide otherwise.

    mean: (D,) float32.
    inverse: (D,) float32, 1 over the standard deviation; 0 where a dimension does not vary.
    roots: whether square roots come first.
    """

    mean: NDArray[np.float32]
    inverse: NDArray[np.float32]
    roots: bool

    @classmethod
    def fit(cls, sample: Embeddings, block_rows: int) -> "Standardised":
        """Learn from (n, D) embeddings, `block_rows` rows at a time."""
        parts = list(blocks(len(sample), sample.shape[1], block_rows))
        roots = all(sample[part].min() >= 0 for part in parts)
        scaler = StandardScaler()
        for part in parts:
            scaler.partial_fit(_values(sample[part], roots))
        spread = np.sqrt(scaler.var_)
        varies = spread > LEAST_SPREAD * spread.max()
        inverse = np.divide(1, spread, out=np.zeros_like(spread), where=varies)
        return cls(scaler.mean_.astype(np.float32), inverse.astype(np.float32), roots)

    def __call__(self, embeddings: Embeddings) -> NDArray[np.float32]:
        """(n, D) float16 or float32 -> (n, D) float32, rows of length 1."""
        out = np.empty(embeddings.shape, dtype=np.float32)
        for part in blocks(*embeddings.shape):
            out[part] = normalize((_values(embeddings[part], self.roots) - self.mean) * self.inverse)
        return out

    def tensors(self) -> dict[str, np.ndarray]:
        """All of it."""
        return {"kept.mean": self.mean, "kept.inverse": self.inverse, "kept.roots": np.array([self.roots])}

    @classmethod
    def load(cls, tensors: dict[str, np.ndarray]) -> "Standardised | None":
        """The inverse of `tensors`; None where there are none of it."""
        if "kept.mean" not in tensors:
            return None
        return cls(tensors["kept.mean"], tensors["kept.inverse"], bool(tensors["kept.roots"][0]))


def _values(rows: np.ndarray, roots: bool) -> NDArray[np.float32]:
    """(n, D) float32, square roots where they come first: below zero, which the sample never was, nothing is left."""
    values = rows.astype(np.float32)
    return np.sqrt(np.maximum(values, 0)) if roots else values
