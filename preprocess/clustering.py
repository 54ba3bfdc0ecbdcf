"""k-means as the identifiers use it: scikit-learn's, on seeded samples, with assignment in blocks (CART 3.2.1)."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from preprocess.inputs import Embeddings, blocks

FIT_ROWS = 262_144
"""Centres of more rows than this are fitted on a seeded sample of so many (1 GiB at 1024 dimensions)."""


def fit_centres(points: Embeddings, clusters: int, method: str, seed: int) -> NDArray[np.float32]:
    """k-means centres of points.

    Args:
        points: (n, D) float16 or float32.
        clusters: number of centres; where there are no more distinct points than that, those are the centres.
        method: "minibatch" (the paper's `MiniBatchKMeans`) or "lloyd" (`KMeans`).
        seed: of the sample and of k-means.

    Returns:
        (at most `clusters`, D) float32.
    """
    rows = np.arange(len(points))
    if len(rows) > FIT_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, FIT_ROWS, replace=False))
    sample = np.asarray(points[rows], dtype=np.float32)
    if len(sample) <= clusters:
        return distinct_rows(sample)
    # Distances of points that lie far from the origin lose their digits in float32.
    shift = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample = sample - shift
    if method == "lloyd":
        estimator = KMeans(clusters, n_init=1, random_state=seed)
    else:
        # The default batch of 1,024 leaves only 8 points per centre and step at K = 128, too few for high-dimensional
        # embeddings: most items then fall to a few centres. Several starts guard against the rest.
        estimator = MiniBatchKMeans(clusters, batch_size=max(4096, 32 * clusters), n_init=3, random_state=seed)
    # One thread: the same result everywhere, and no threads that spin while another process has the core.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than centres: the report says so
        estimator.fit(sample)
    return (estimator.cluster_centers_ + shift).astype(np.float32)


def distinct_rows(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distinct rows of points (n, D) in order of first appearance."""
    _, first = np.unique(points, axis=0, return_index=True)
    return points[np.sort(first)]


def assign(points: Embeddings, centres: NDArray[np.float32]) -> NDArray[np.int32]:
    """Index of the nearest centre of every point, Euclidean, computed in blocks; ties go to the lower index.

    Args:
        points: (n, D) float16 or float32.
        centres: (clusters, D) float32.

    Returns:
        (n,) int32.
    """
    shift = centres.mean(axis=0)
    shifted = centres - shift
    norms = np.square(shifted).sum(axis=1)
    nearest = np.empty(len(points), dtype=np.int32)
    for block in blocks(*points.shape):
        here = np.asarray(points[block], dtype=np.float32) - shift
        nearest[block] = (norms - 2 * (here @ shifted.T)).argmin(axis=1)
    return nearest
