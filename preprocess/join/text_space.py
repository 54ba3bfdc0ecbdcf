"""Items in the space of text features: the means of their captions, and predictions from their embeddings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from cart_fairseq.base.progress import Progress
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.identifiers.transform import Transform

LEAST_SPREAD = 1e-4
"""Directions that vary less than this, relative to the one that varies most, are noise of the arithmetic."""


class ItemTexts:
    """Text features of items: the mean of their captions', a block of items at a time.

    Args:
        features: (U, T) float32 of the captions, of length 1 or zero; may be a memory map, which is read in parts.
        owners: (U,) int64, the row of each caption's item.
        items: N.
    """

    def __init__(self, features: NDArray[np.float32], owners: NDArray[np.int64], items: int):
        self.features = features
        ones = np.ones(len(owners), dtype=np.float32)
        self._captions_of = csr_matrix((ones, (owners, np.arange(len(owners)))), shape=(items, len(owners)))

    def means(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, T) float32 of items: the mean of their captions' features at length 1; zeros where there is none."""
        return normalize(self._captions_of[rows] @ self.features)

    def centre(self, block_rows: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The mean of `means` over the items that have one, (T,), and which these are, (N,)."""
        items, width = self._captions_of.shape[0], self.features.shape[1]
        total, has_text = np.zeros(width), np.zeros(items, dtype=bool)
        with Progress(items, "averaging captions", "items") as progress:
            for block in blocks(items, width, block_rows):
                means = self.means(np.arange(block.start, block.stop))
                has_text[block] = means.any(axis=1)
                total += means.sum(axis=0, dtype=np.float64)
                progress.update(len(means))
        return (total / max(1, has_text.sum())).astype(np.float32), has_text


def centred(features: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, T) rows less the centre, of length 1 again; rows of zeros, which say nothing, stay so."""
    return normalize(np.where(features.any(axis=1, keepdims=True), features - centre, 0))


@dataclass
class TextMap:
    """Embeddings -> text features: whitened principal components, ridge regression, length 1.

    The regression's intercept is left out: components are taken from the mean of the sample, where the regression
    predicts the intercept, so that without it predictions are centred over the sample.

    transform: principal components of the embeddings.
    scale: (p,) float32, standard deviation of each component.
    ridge: (T, p) float32, coefficients.
    """

    transform: Transform
    scale: NDArray[np.float32]
    ridge: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        sample: Embeddings,
        known: Embeddings,
        targets: NDArray[np.float32],
        pca: int,
        alpha: float,
        block_rows: int,
    ) -> "TextMap":
        """Learn the components and the regression.

        Args:
            sample: (n, D), what the components are fitted on.
            known: (m, D), embeddings of items with captions.
            targets: (m, T), centred text features of these items.
            pca: p; components in which the sample does not vary are dropped.
            alpha: scikit-learn's `Ridge`.

        Raises:
            ValueError: more components than rows or dimensions; a sample that does not vary.
        """
        if len(sample) < 2:
            raise ValueError("only 1 item, there is nothing to fit; give more items, or an earlier join with --like")
        transform = Transform.fit(sample, False, pca, block_rows)
        assert transform.components is not None
        spread = transform(sample).std(axis=0, ddof=1, dtype=np.float64).astype(np.float32)
        varies = spread > LEAST_SPREAD * spread.max()
        if not varies.any():
            raise ValueError("all embeddings are identical; check how they were extracted")
        transform = Transform(False, transform.mean, transform.components[varies])
        scale = spread[varies]
        with threadpool_limits(limits=1):  # the same result everywhere
            regression = Ridge(alpha).fit(transform(known) / scale, targets)
        return cls(transform, scale, regression.coef_.astype(np.float32))

    def __call__(self, embeddings: Embeddings) -> NDArray[np.float32]:
        """(n, D) float16 or float32 -> (n, T) float32, rows of length 1."""
        return normalize(self.transform(embeddings) / self.scale @ self.ridge.T)

    def tensors(self) -> dict[str, np.ndarray]:
        """All of it."""
        return self.transform.tensors() | {"scale": self.scale, "ridge": self.ridge}

    @classmethod
    def load(cls, tensors: dict[str, np.ndarray]) -> "TextMap":
        """The inverse of `tensors`."""
        return cls(Transform.load(tensors), tensors["scale"], tensors["ridge"])
