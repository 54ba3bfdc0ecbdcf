"""k-means as the identifiers use it: scikit-learn's, fitted by mini-batches, with assignment in blocks (CART 3.2.1)."""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClusterMixin
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from cart_fairseq.base.progress import track
from cart_fairseq.rqvae.network import nearest
from preprocess.data.embeddings import Embeddings, RowSubset
from preprocess.identifiers.settings import BLOCK_ROWS

CHUNK_ROWS = 2_048
"""Rows of one matrix product, few enough that its results stay in the processor's cache."""
BATCH_ROWS_PER_CENTRE = 32
PASSES = 10
"""Of `partial_fit` over the points."""


def fit_centres(
    points: Embeddings, clusters: int, method: str, seed: int, block_rows: int = BLOCK_ROWS, centring: bool = True
) -> NDArray[np.float32]:
    """k-means centres of points.

    With "minibatch" up to `block_rows` points are fitted at once. More are drawn in batches of that size (at least 32
    rows a centre), in an order shuffled for each of ten passes, and given to `MiniBatchKMeans.partial_fit`, which
    starts from the centres of the first batch. The other methods need all points in memory.

    Args:
        points: (n, D) float16 or float32.
        clusters: number of centres; where there are no more distinct points than that, those are the centres.
        method: "minibatch" (`MiniBatchKMeans` with large batches), "lloyd" (`KMeans`) or "sklearn-default" (the paper's
            `MiniBatchKMeans` with scikit-learn's defaults).
        seed: of the order and of k-means.
        centring: subtract the mean before and add it to the centres after.

    Returns:
        (at most `clusters`, D) float32.
    """
    batch_rows = max(block_rows, BATCH_ROWS_PER_CENTRE * clusters)
    batches = shuffled_batches(points, batch_rows, seed) if method == "minibatch" else iter([points[:]])
    sample = np.asarray(points[:] if len(points) <= batch_rows else next(batches), dtype=np.float32)
    if len(sample) < clusters or (len(sample) == clusters and method != "sklearn-default"):
        return distinct_rows(sample)
    shift = np.zeros(sample.shape[1], dtype=np.float32)
    if centring:
        # Distances of points that lie far from the origin lose their digits in float32.
        shift = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        sample = sample - shift
    estimator = k_means(method, clusters, seed)
    # One thread: the same result everywhere, and no threads that spin while another process has the core.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than centres: the report says so
        estimator.fit(sample)
        if method == "minibatch" and len(points) > batch_rows:
            estimator = MiniBatchKMeans(clusters, init=estimator.cluster_centers_, n_init=1, random_state=seed)
            steps = -(-len(points) // batch_rows) * PASSES
            for rows in track(batches, "k-means", "batches", total=steps, done=1):
                estimator.partial_fit(np.asarray(rows, dtype=np.float32) - shift)
    centres = estimator.cluster_centers_
    return (centres + shift if centring else centres).astype(np.float32)


def k_means(method: str, clusters: int, seed: int) -> ClusterMixin:
    """The estimator of a method, see `fit_centres`."""
    if method == "lloyd":
        return KMeans(clusters, n_init=1, random_state=seed)
    if method == "sklearn-default":
        return MiniBatchKMeans(clusters, random_state=seed)
    # Batches of four times scikit-learn's default and the best of three starts use the centres more evenly: on 8,000
    # photographs with K = 128 and three seeds the perplexity is 111 to 113; with the default it is 82 to 91.
    batch = max(4096, BATCH_ROWS_PER_CENTRE * clusters)
    return MiniBatchKMeans(clusters, batch_size=batch, n_init=3, random_state=seed)


def shuffled_batches(points: Embeddings, rows: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of about `rows` points of (n, D), all of the same size to one, PASSES times, shuffled for each pass."""
    draw = np.random.default_rng(seed)
    for _ in range(PASSES):
        for batch in np.array_split(draw.permutation(len(points)), -(-len(points) // rows)):
            yield points[np.sort(batch)]


def distinct_rows(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distinct rows of points (n, D) in order of first appearance."""
    _, first = np.unique(points, axis=0, return_index=True)
    return points[np.sort(first)]


def chunks(points: Embeddings) -> Iterator[tuple[slice, Tensor]]:
    """Walk through (n, D) float16 or float32 points: positions and (up to CHUNK_ROWS, D) float32.

    The tensor is one buffer, filled anew for every chunk.
    """
    buffer = torch.empty(min(CHUNK_ROWS, len(points)), points.shape[1])
    for start in range(0, len(points), CHUNK_ROWS):
        rows = slice(start, min(start + CHUNK_ROWS, len(points)))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable")  # memory maps are read, never written
            here = torch.from_numpy(np.asarray(points[rows]))
        yield rows, buffer[: len(here)].copy_(here)


class NearestCentre:
    """Finds the nearest of some centres, Euclidean; ties go to the lower index.

    Distances are taken from the mean of the centres, as those of points far from the origin lose their digits.
    """

    def __init__(self, centres: NDArray[np.float32]):
        shift = centres.mean(axis=0)
        self.shift = torch.from_numpy(shift)
        self.shifted = torch.from_numpy(centres - shift)

    def __call__(self, points: Tensor, out: Tensor | None = None) -> Tensor:
        """(n, D) float32 -> (n,) int64. `out`, of the points' shape, is scratch space."""
        return nearest(torch.sub(points, self.shift, out=out), self.shifted)


class ScikitNearestCentre:
    """Finds the nearest of some centres as the `predict` of scikit-learn's k-means does, to the bit.

    Between centres at almost the same distance rounding decides, so `NearestCentre` need not equal the `labels_`.
    """

    def __init__(self, centres: NDArray[np.float32]):
        # Fitted so that scikit-learn takes it for fitted; the centres that count are set after it.
        self.estimator = MiniBatchKMeans(len(centres), init=centres, n_init=1, max_iter=1, random_state=0)
        with threadpool_limits(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.estimator.fit(centres)
        self.estimator.cluster_centers_ = centres

    def __call__(self, points: Tensor, out: Tensor | None = None) -> Tensor:
        """(n, D) float32 -> (n,) int64. `out` is not used."""
        return torch.from_numpy(self.estimator.predict(points.numpy()).astype(np.int64))


def centre_finder(centres: NDArray[np.float32], centring: bool) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Finds the nearest of (clusters, D) centres: `NearestCentre`, or without centring `ScikitNearestCentre`."""
    return NearestCentre(centres) if centring else ScikitNearestCentre(centres)


@torch.inference_mode()
def nearest_centres(points: Embeddings, centres: NDArray[np.float32], centring: bool = True) -> NDArray[np.int32]:
    """Index of the nearest centre of every point, computed in blocks.

    Args:
        points: (n, D) float16 or float32.
        centres: (clusters, D) float32.
        centring: whether distances are taken from the mean of the centres, see `centre_finder`.

    Returns:
        (n,) int32.
    """
    find = centre_finder(centres, centring)
    found = np.empty(len(points), dtype=np.int32)
    for rows, chunk in chunks(points):
        found[rows] = find(chunk, None).numpy()
    return found


def sample_rows(points: Embeddings, count: int, seed: int) -> Embeddings:
    """A seeded sample of `count` rows of (n, D) points, in row order, or all of them where they are no more."""
    if len(points) <= count:
        return points
    return RowSubset(points, np.sort(np.random.default_rng(seed).choice(len(points), count, replace=False)))
