"""Encodes a whole catalogue block by block, and measures the reconstruction error; goes on where a killed run stopped.

`BlockEncoder` does all the computing. An engine decides where it runs: in this process, or on many machines
(`preprocess.identifiers.ray_engine`).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cart_fairseq.base.progress import Progress
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.data.kept import BlockStore, Shape
from preprocess.identifiers.clustering import chunks
from preprocess.identifiers.schemes.scheme import Codec

CHECKPOINT_BLOCKS = 16
"""Finished blocks after which results are flushed to disk."""


class Result(NamedTuple):
    """The result of a block.

    Attributes:
        number: of the block.
        codes: (n, C) int32 of its rows.
        statistics: (D + 3,) float64, see `BlockEncoder.statistics`.
    """

    number: int
    codes: NDArray[np.int32]
    statistics: NDArray[np.float64]


Engine = Callable[[NDArray[np.int64]], Iterator[Result]]
"""Computes the results of the blocks of the given numbers, in any order."""


class BlockEncoder:
    """Encodes blocks of rows and measures how far their values lie from them."""

    def __init__(self, codec: Codec):
        self.codec = codec

    def __call__(self, block: np.ndarray) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """(n, D) float16 or float32 -> codes (n, C) int32 and statistics (D + 3,) float64, see `statistics`."""
        codes = self.codec.encode(block)
        return codes, self.statistics(block, codes)

    @torch.inference_mode()
    def statistics(self, block: np.ndarray, codes: NDArray[np.int32]) -> NDArray[np.float64]:
        """Rows; squared error of the decoded rows; squared distance of the rows from their mean; mean (D,).

        Where the codec normalises, of the normalised rows.
        """
        parts = []
        for rows, chunk in chunks(block):
            chunk = self.codec.normalised(chunk)
            mean = chunk.mean(dim=0)
            spread = (chunk - mean).square_().sum()
            error = chunk.sub(torch.from_numpy(self.codec.decode(codes[rows]))).square_().sum()
            parts.append(np.concatenate([[len(chunk), error, spread], mean.numpy()]).astype(np.float64))
        return pooled(np.stack(parts))


def pooled(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Statistics (D + 3,) of all rows from those (n, D + 3) of n groups of them."""
    rows = statistics[:, :1]
    mean = (rows * statistics[:, 3:]).sum(axis=0) / rows.sum()
    spread = statistics[:, 2].sum() + (rows * np.square(statistics[:, 3:] - mean)).sum()
    return np.concatenate([[rows.sum(), statistics[:, 1].sum(), spread], mean])


def relative_error(statistics: NDArray[np.float64]) -> float:
    """Mean squared error relative to the variance: 0 exact, 1 no better than the mean."""
    return float(statistics[1] / statistics[2]) if statistics[2] else 0.0


def reconstruction_error(codec: Codec, embeddings: Embeddings, codes: NDArray[np.int32]) -> float:
    """`relative_error` of (N, D) embeddings and their (N, C) codes, read in blocks."""
    encoder = BlockEncoder(codec)
    parts = [encoder.statistics(np.asarray(embeddings[b]), codes[b]) for b in blocks(*embeddings.shape)]
    return relative_error(pooled(np.stack(parts)))


def local_engine(codec: Codec, embeddings: Embeddings, block_rows: int) -> Engine:
    """Encodes here, one block after the other, with torch's threads."""
    encoder = BlockEncoder(codec)

    def results(pending: NDArray[np.int64]) -> Iterator[Result]:
        for number in pending.tolist():
            yield Result(number, *encoder(np.asarray(embeddings[number * block_rows : (number + 1) * block_rows])))

    return results


def encode_catalogue(
    engine: Engine, shape: tuple[int, int], values: int, block_rows: int, work: Path
) -> tuple[NDArray[np.int32], float]:
    """Codes and reconstruction error of all rows.

    Args:
        engine: computes blocks of `block_rows` rows.
        shape: (N, D) of the embeddings.
        values: C, values per row.
        work: receives `assignment/`, from which a run that was killed goes on.

    Returns:
        (N, C) int32, a memory map of a file in `work`; the relative reconstruction error.
    """
    rows, dimension = shape
    count = -(-rows // block_rows)
    shapes = {"codes": Shape(np.int32, (rows, values)), "statistics": Shape(np.float64, (count, dimension + 3))}

    def content(store: BlockStore, number: int) -> list[NDArray[Any]]:
        of_block = store.arrays["codes"][number * block_rows : (number + 1) * block_rows]
        return [of_block, store.arrays["statistics"][number]]

    store = BlockStore(work / "assignment", shapes, count, content)
    codes, statistics = store.arrays["codes"], store.arrays["statistics"]
    finished: list[int] = []

    def keep() -> None:
        store.keep(finished)
        finished.clear()

    done = store.whole()
    pending = np.flatnonzero(~done)
    with Progress(rows, "assigning", "rows", done=min(rows, int(done.sum()) * block_rows)) as progress:
        for block in engine(pending) if len(pending) else ():
            codes[block.number * block_rows : (block.number + 1) * block_rows] = block.codes
            statistics[block.number] = block.statistics
            finished.append(block.number)
            progress.update(len(block.codes))
            if len(finished) == CHECKPOINT_BLOCKS:
                keep()
    keep()
    return codes, relative_error(pooled(statistics))
