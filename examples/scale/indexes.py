"""Indexes of faiss over the dual tower's item vectors, each searched with priors: what is built once is kept in files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.files import replacing
from cart_fairseq.base.progress import track

DEPTH = 10
LINKS, BUILD_EFFORT, HNSW_EFFORTS = 32, 80, (64, 256)
"""Of HNSW: links of a node, and efforts of building and of searching."""
CODE_BYTES, IVF_EFFORTS, IVF_ITEMS, TRAINING = 64, (16, 64), 20_000, 40
"""Of IVF-PQ: bytes of an item, cells that are searched, the fewest items, and the items a cell that it is fitted to."""
RERANKED = 128
"""Items of an approximate search that are ranked again with their vectors and priors."""
BLOCK = 10_000
MIB = 2**20
Places = NDArray[np.int64]


class Index(NamedTuple):
    """An index.

    Attributes:
        name: what it is.
        search: maps queries (B, D) float32 to the places (B, 10) of the best items; -1 where there are fewer.
        mebibytes: its size in memory, and that of what it maps.
    """

    name: str
    search: Callable[[NDArray[np.float32]], Places]
    mebibytes: float


def indexes_of(vectors: NDArray[Any], priors: NDArray[np.float32], share: float, folder: Path) -> list[Index]:
    """Exact search without and with priors, HNSW, and IVF-PQ where there are enough items.

    Args:
        vectors: (n, D) vectors of items.
        priors: (n,) their priors.
        share: of the priors.
        folder: keeps indexes that take long to build.
    """
    flat = _exact(vectors, priors)
    size = flat.ntotal * flat.d * 4 / MIB
    found = [
        Index("exact", lambda asked: _with_share(flat, asked, 0.0), size),
        Index("exact, priors", lambda asked: _with_share(flat, asked, share), size),
    ]
    again = partial(_ranked_again, vectors=vectors, priors=priors, share=share)
    graph, size = _kept(folder / f"hnsw.{len(vectors)}.faiss", lambda: _graph(vectors))
    for effort in HNSW_EFFORTS:
        found.append(
            Index(f"HNSW, effort {effort}, priors", _searched(graph.hnsw, "efSearch", effort, graph, again), size)
        )
    if len(vectors) >= IVF_ITEMS:
        cells, size = _kept(folder / f"ivf-pq.{len(vectors)}.faiss", lambda: _cells(vectors))
        for effort in IVF_EFFORTS:
            search = _searched(cells, "nprobe", effort, cells, again)
            found.append(Index(f"IVF-PQ, {effort} cells, priors", search, size + vectors.nbytes / MIB))
    return found


def _exact(vectors: NDArray[Any], priors: NDArray[np.float32]) -> Any:
    """A flat index; the prior is one more value of the item."""
    index = faiss.IndexFlatIP(vectors.shape[1] + 1)
    for at in range(0, len(vectors), BLOCK):
        index.add(np.column_stack([vectors[at : at + BLOCK], priors[at : at + BLOCK]]).astype(np.float32))
    return index


def _with_share(flat: Any, asked: NDArray[np.float32], share: float) -> Places:
    places: Places = flat.search(np.column_stack([asked, np.full(len(asked), -share, np.float32)]), DEPTH)[1]
    return places


def _graph(vectors: NDArray[Any]) -> Any:
    index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_EFFORT
    for at in track(range(0, len(vectors), BLOCK), "HNSW", "blocks"):
        index.add(vectors[at : at + BLOCK].astype(np.float32))
    return index


def _cells(vectors: NDArray[Any]) -> Any:
    """Four times the square root of n cells, and product-quantised vectors."""
    cells = round(4 * len(vectors) ** 0.5)
    index = faiss.index_factory(vectors.shape[1], f"IVF{cells},PQ{CODE_BYTES}", faiss.METRIC_INNER_PRODUCT)
    chosen = np.sort(np.random.default_rng(1).choice(len(vectors), min(len(vectors), TRAINING * cells), replace=False))
    index.train(vectors[chosen].astype(np.float32))
    for at in track(range(0, len(vectors), BLOCK), "IVF-PQ", "blocks"):
        index.add(vectors[at : at + BLOCK].astype(np.float32))
    return index


def _searched(
    settings: Any, name: str, effort: int, index: Any, again: Callable[..., Places]
) -> Callable[[NDArray[np.float32]], Places]:
    def search(asked: NDArray[np.float32]) -> Places:
        setattr(settings, name, effort)
        return again(asked, index.search(asked, min(RERANKED, index.ntotal))[1])

    return search


def _ranked_again(
    asked: NDArray[np.float32],
    found: Places,
    vectors: NDArray[Any],
    priors: NDArray[np.float32],
    share: float,
) -> Places:
    rows = np.maximum(found, 0)
    exact = np.einsum("bd,bkd->bk", asked, vectors[rows].astype(np.float32))
    scores = np.where(found < 0, -np.inf, exact - share * priors[rows])
    return np.take_along_axis(found, (-scores).argsort(1)[:, :DEPTH], 1)


def _kept(path: Path, build: Callable[[], Any]) -> tuple[Any, float]:
    """Read an index, or build and write it; returns it and its size in MiB."""
    if not path.is_file():
        with replacing(path) as new:
            faiss.write_index(build(), str(new))
    return faiss.read_index(str(path)), path.stat().st_size / MIB
