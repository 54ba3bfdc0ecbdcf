"""Encodes blocks on the machines of a Ray cluster, with the same `BlockEncoder` as here (`--engine ray`).

Block numbers go out and values come back. Every machine opens the embeddings by their path, so the path must lie on a
file system that all of them see. When a machine is lost, Ray repeats its work on another.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from preprocess.data.embeddings import open_embeddings
from preprocess.identifiers.encode import BlockEncoder, Engine, Result
from preprocess.identifiers.schemes.scheme import Codec


class RayEncoder:
    """A worker: a `BlockEncoder` and the embeddings that it reads.

    It has as many threads as the local engine, because a matrix product that is split differently may round differently.
    """

    def __init__(self, codec: Codec, path: Path, column: str, block_rows: int, threads: int):
        torch.set_num_threads(threads)
        self.encoder = BlockEncoder(codec)
        self.embeddings = open_embeddings(path, column, check=False)
        self.block_rows = block_rows

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """{"block": (n,) int64} -> the same with each block's codes (int32) and statistics (float64) as bytes."""
        out: dict[str, list[Any]] = {"block": [], "codes": [], "statistics": []}
        for number in batch["block"].tolist():
            rows = self.embeddings[number * self.block_rows : (number + 1) * self.block_rows]
            codes, statistics = self.encoder(np.asarray(rows))
            for name, value in zip(out, (number, codes.tobytes(), statistics.tobytes()), strict=True):
                out[name].append(value)
        return out


def ray_engine(codec: Codec, path: Path, column: str, block_rows: int) -> Engine:
    """Encodes on the cluster that `RAY_ADDRESS` names, or on one started on this machine.

    Args:
        path, column: of the embeddings, as `open_embeddings` takes them.

    Raises:
        ValueError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise ValueError("--engine ray: Ray is not installed; pip install 'cart-fairseq[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    threads, values = torch.get_num_threads(), len(codec.positions)
    workers = max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)

    def results(pending: NDArray[np.int64]) -> Iterator[Result]:
        numbers = ray.data.from_items([{"block": int(n)} for n in pending], override_num_blocks=len(pending))
        encoded = numbers.map_batches(
            RayEncoder,
            fn_constructor_args=(codec, path.resolve(), column, block_rows, threads),
            batch_size=1,
            num_cpus=threads,
            concurrency=(1, workers),
        )
        for row in encoded.iter_rows():
            codes = np.frombuffer(row["codes"], dtype=np.int32).reshape(-1, values)
            yield Result(row["block"], codes, np.frombuffer(row["statistics"], dtype=np.float64))

    return results
