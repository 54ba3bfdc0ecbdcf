"""Vectors of query symbols whose sum predicts the features of a caption, by ridge regression."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits
from torch import Tensor

from cart_fairseq.network.embeddings import SPECIALS

SAMPLE = 200_000
"""Most captions that the regression is fitted on, spread evenly over all."""
FREQUENT = 8192
"""Most symbols that it is fitted for, the most frequent ones: its time grows with the cube of their number."""
LEAST_CAPTIONS = 2
RIDGE = 1.0


def fit_symbol_vectors(
    queries: Sequence[Tensor], features: NDArray[np.float16] | NDArray[np.float32], symbols: int
) -> Tensor:
    """Fit a vector for each symbol.

    A caption is the sum of its symbols, each weighted by its inverse document frequency, at length 1. The weights are a
    part of the vectors that are returned, so that a query's vectors need no weights.

    Args:
        queries: (P,) the training captions, int64 symbols.
        features: (P, T) features of the captions, of length 1; zeros for a caption without features, which is left out.
        symbols: V, size of the query dictionary.

    Returns:
        (V, T) float32; zeros for symbols of fewer than two captions and for symbols beyond the ``FREQUENT`` ones.
    """
    rows = np.arange(0, len(queries), max(1, -(-len(queries) // SAMPLE)))
    rows = rows[features[rows].any(axis=1)]
    vectors = torch.zeros(symbols, features.shape[1])
    counts = _counts([queries[row].numpy() for row in rows.tolist()], symbols)
    captions = np.bincount(counts.indices, minlength=symbols)
    captions[:SPECIALS] = 0
    frequent = np.argsort(-captions, kind="stable")[:FREQUENT]
    frequent = np.sort(frequent[captions[frequent] >= LEAST_CAPTIONS])
    if not len(frequent):
        return vectors
    rarity = np.log((1 + len(rows)) / (1 + captions[frequent])).astype(np.float32) + 1
    weighted = normalize(counts[:, frequent].multiply(rarity).tocsr())
    with threadpool_limits(limits=1):  # the same result everywhere
        regression = Ridge(RIDGE, fit_intercept=False, solver="cholesky")
        regression.fit(weighted, np.asarray(features[rows], dtype=np.float32))
    vectors[torch.from_numpy(frequent)] = torch.from_numpy(np.ascontiguousarray(regression.coef_.T * rarity[:, None]))
    return vectors


def _counts(captions: Sequence[NDArray[np.int64]], symbols: int) -> csr_matrix:
    """How often each symbol occurs in each caption: (n, V) float32."""
    begin = np.concatenate([[0], np.cumsum([len(caption) for caption in captions])])
    flat = np.concatenate(captions) if captions else np.zeros(0, dtype=np.int64)
    counts = csr_matrix((np.ones(len(flat), dtype=np.float32), flat, begin), shape=(len(captions), symbols))
    counts.sum_duplicates()
    return counts
