"""The vector search of dual towers: faiss indexes over random clustered vectors, and their recall."""

import time
from typing import Any

import faiss
import numpy as np
import torch
from text_encoders import Encode
from timing import Contender

from cart_fairseq.base.progress import track

# from this number of queries faiss uses matrix products, which are much faster; the default of 1.15 is too high
faiss.cvar.distance_compute_blas_threshold = 20

INDEXES = ("flat", "ivf", "hnsw")
NEIGHBOURS = 10
CLUSTER = 100  # mean number of items per cluster
INTRINSIC = 64  # intrinsic dimension of the vectors, which is low as in learned embeddings
NOISE = 0.5  # length of the noise that is added to an item's vector to make a query
IVF_PROBES = 16  # of sqrt(N) cells
HNSW_LINKS, HNSW_BUILD_EFFORT, HNSW_SEARCH_EFFORT = 16, 40, 64


def bytes_of(index: str, width: int) -> int:
    """Return the bytes of an item in an index of vectors of this width.

    >>> bytes_of("flat", 512), bytes_of("ivf", 512), bytes_of("hnsw", 512)
    (2048, 2056, 2176)
    """
    more = {"flat": 0, "ivf": 8, "hnsw": 4 * 2 * HNSW_LINKS}
    return 4 * width + more[index]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class VectorSearch:
    """faiss indexes over the same N clustered vectors of unit length, with inner product as similarity.

    Queries are vectors of items with noise, because outputs of random text encoders have no near neighbours.

    Args:
        items: N.
        names: the indexes to build, of ``INDEXES``. ``flat`` is always built, because the others copy its vectors.
        queries: Q.
        width: D.

    Attributes:
        queries: (Q, D) float32.
        targets: (Q,), the rows of the items from which the queries were made.
        neighbours: (Q, 10) int64, the rows of the exact nearest neighbours.
        facts: for each index the ``build_seconds``.
    """

    def __init__(self, items: int, names: list[str], queries: int, seed: int, width: int, chunk: int = 2000):
        faiss.omp_set_num_threads(torch.get_num_threads())
        generator = np.random.default_rng((seed, items))
        centres = generator.standard_normal((max(1, items // CLUSTER), INTRINSIC), dtype=np.float32)
        embed = generator.standard_normal((INTRINSIC, width), dtype=np.float32)
        self.indexes: dict[str, Any] = {"flat": faiss.IndexFlatIP(width)}
        self.facts: dict[str, dict[str, float]] = {}
        flat = self.indexes["flat"]
        start = time.perf_counter()
        for first in track(range(0, items, chunk), "vectors", "chunks"):
            size = min(chunk, items - first)
            spread = generator.standard_normal((size, INTRINSIC), dtype=np.float32)
            flat.add(unit((centres[generator.integers(len(centres), size=size)] + spread) @ embed))
        self.facts["flat"] = {"build_seconds": time.perf_counter() - start}
        for name in sorted(set(names) - {"flat"}):
            start = time.perf_counter()
            self.indexes[name] = _built(name, flat, chunk)
            self.facts[name] = {"build_seconds": time.perf_counter() - start}
        self.targets = generator.integers(items, size=queries)
        noise = generator.standard_normal((queries, INTRINSIC), dtype=np.float32) @ embed
        self.queries = unit(flat.reconstruct_batch(self.targets) + NOISE * unit(noise))
        self.neighbours = self.search("flat")

    def search(self, name: str) -> np.ndarray:
        """Return (Q, 10) int64, the rows of the best items, best first; -1 if an index found fewer."""
        return self.indexes[name].search(self.queries, NEIGHBOURS)[1]

    def recall(self, name: str) -> float:
        """Return the recall of the 10 exact nearest neighbours, in percent."""
        found = self.search(name)
        wanted = self.neighbours
        shared = sum(len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(found, wanted, strict=True))
        return 100 * shared / int((wanted >= 0).sum())

    def contender(self, name: str, encode: Encode, index: str) -> Contender:
        """Return the contender, which encodes the queries and searches an index."""
        recall = self.recall(index)

        def run() -> dict[str, Any]:
            start = time.perf_counter()
            encode()
            middle = time.perf_counter()
            self.search(index)
            return {
                "encoder_seconds": middle - start,
                "search_seconds": time.perf_counter() - middle,
                "recall_at_10": recall,
            }

        return Contender(name, run)


def _built(name: str, flat: Any, chunk: int) -> Any:
    """Build an index of the vectors of the flat index."""
    index: Any
    if name == "ivf":
        cells = max(1, round(flat.ntotal**0.5))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(flat.d), flat.d, cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # allows tiny catalogues in tests
        sample = np.linspace(0, flat.ntotal - 1, min(flat.ntotal, 39 * cells)).astype(np.int64)
        index.train(flat.reconstruct_batch(sample))
        index.nprobe = IVF_PROBES
    else:
        index = faiss.IndexHNSWFlat(flat.d, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = HNSW_BUILD_EFFORT, HNSW_SEARCH_EFFORT
    for first in track(range(0, flat.ntotal, chunk), f"{name} index", "chunks"):
        index.add(flat.reconstruct_n(first, min(chunk, flat.ntotal - first)))
    return index
