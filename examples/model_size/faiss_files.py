"""The same catalogue for a dual tower: vectors in an index of faiss on disk, and the items' records beside it.

Settings follow faiss' own guide, https://github.com/facebookresearch/faiss/wiki/Guidelines-to-choose-an-index: for the
least memory ``OPQ64_256``, an inverted file of 4·√N lists and ``PQ64``, which is 64 bytes a vector, the most that the
guide names; HNSW with 32 links, within its 4 to 64. Vectors are on the unit sphere and compared by inner product.

Rotation, codebooks and graph are fitted with little effort, because no size and no time to open depends on it. So the
indexes say nothing about recall.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cart_fairseq.base.files import replacing
from cart_fairseq.base.progress import track

INDEXES = ("Flat", "Flat, float16", "IVF-PQ", "HNSW")
LISTS, LEAST_OF_LIST = 4, 39
"""Lists per root of the number of items; vectors a list that faiss asks for to train."""
FIT_ROWS, ROUNDS = 16_384, 2
"""Rows and rounds to fit the rotation and the codebooks."""
LINKS, BUILD_EFFORT = 32, 8
BLOCK = 8192


def lists_of(items: int) -> int:
    """Number of lists of an inverted file: 4·√N.

    >>> lists_of(10_000), lists_of(1_000_000)
    (400, 4000)
    """
    return max(1, round(LISTS * items**0.5))


def factory(name: str, items: int, codes: int = 64) -> str:
    """The description of an index for faiss' factory.

    Args:
        name: one of `INDEXES`.
        items: N.
        codes: bytes a vector of IVF-PQ.

    >>> factory("IVF-PQ", 10_000)
    'OPQ64_256,IVF400,PQ64np'
    """
    ivf = f"OPQ{codes}_{4 * codes},IVF{lists_of(items)},PQ{codes}np"  # np: no polysemous codes, which only another kind of search reads
    return {"Flat": "Flat", "Flat, float16": "SQfp16", "IVF-PQ": ivf, "HNSW": f"HNSW{LINKS}"}[name]


def mapping_flag(name: str) -> int:
    """The flag with which faiss maps an index into memory instead of reading it."""
    return int(faiss.IO_FLAG_MMAP if name == "IVF-PQ" else faiss.IO_FLAG_MMAP_IFC)


def write_index(path: Path, name: str, vectors: NDArray[np.floating[Any]], codes: int = 64) -> None:
    """Build an index of vectors (N, D) and write it, unless the file is there.

    Args:
        name: one of `INDEXES`.
        codes: see `factory`.
    """
    if path.is_file():
        return
    index: Any = faiss.index_factory(vectors.shape[1], factory(name, len(vectors), codes), faiss.METRIC_INNER_PRODUCT)
    if name == "IVF-PQ":
        _fit_ivf(index, vectors)
    elif name == "HNSW":
        index.hnsw.efConstruction = BUILD_EFFORT
    elif name == "Flat, float16":
        index.train(np.asarray(vectors[:1], dtype=np.float32))
    for first in track(range(0, len(vectors), BLOCK), f"{name} index", "blocks"):
        index.add(np.asarray(vectors[first : first + BLOCK], dtype=np.float32))
    with replacing(path) as new:
        faiss.write_index(index, str(new))


def _fit_ivf(index: Any, vectors: NDArray[np.floating[Any]]) -> None:
    rotation: Any = faiss.downcast_VectorTransform(index.chain.at(0))
    rotation.niter, rotation.niter_pq, rotation.niter_pq_0, rotation.max_train_points = ROUNDS, 1, 1, FIT_ROWS
    inverted: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    inverted.cp.min_points_per_centroid, inverted.cp.niter = 1, ROUNDS
    codebooks = inverted.pq
    codebooks.cp.niter, codebooks.cp.max_points_per_centroid = ROUNDS, FIT_ROWS // codebooks.ksub
    codebooks.cp.min_points_per_centroid = 1
    count = min(len(vectors), max(FIT_ROWS, LEAST_OF_LIST * inverted.nlist))
    chosen = np.linspace(0, len(vectors) - 1, count).astype(np.int64)
    index.train(np.asarray(vectors[chosen], dtype=np.float32))


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Write the items' ids, media and modalities as clip-retrieval does its metadata: a Parquet table, a column each."""
    pq.write_table(pa.Table.from_pylist(records), path)
