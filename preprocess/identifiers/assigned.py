"""The identifiers of GRACE, the paper's generative rival (Li et al., 2024; CART Table 3): atomic and structured.

Atomic: every item has a symbol of its own, and nothing but that. It is the unique token of an empty code. Structured:
the path in a tree of clusters as a string of digits. It is `codec.TreeCodec` with ten children a node.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.identifiers import Position
from preprocess.data.embeddings import Embeddings, blocks

DIGITS = 10


@dataclass
class AtomicCodec:
    """No semantic values at all: all items have the empty code, and decode to the mean.

    mean: (1, D) float32 of all embeddings.
    """

    mean: NDArray[np.float32]

    @classmethod
    def fit(cls, embeddings: Embeddings) -> "AtomicCodec":
        """Mean of (N, D) float16 or float32 embeddings."""
        total = np.zeros(embeddings.shape[1])
        for block in blocks(*embeddings.shape):
            total += np.asarray(embeddings[block], dtype=np.float64).sum(axis=0)
        return cls((total / len(embeddings)).astype(np.float32)[None])

    @property
    def positions(self) -> list[Position]:
        """None."""
        return []

    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) -> (N, 0) int32."""
        return np.empty((len(embeddings), 0), dtype=np.int32)

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, 0) int32 -> (n, D) float32, the mean."""
        return np.repeat(self.mean, len(codes), axis=0)

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds: `atomic.mean`."""
        return {"atomic.mean": self.mean}


def digit_levels(items: int) -> list[int]:
    """Sizes of the structured scheme's levels: ten each, as many as numbers below `items` have digits.

    >>> digit_levels(8000), digit_levels(1)
    ([10, 10, 10, 10], [10])
    """
    return [DIGITS] * len(str(items - 1))


def unique_symbols(scheme: str, items: int, reserved: int) -> int:
    """Symbols of each digit of the unique token: `reserved`, but for atomic so many more than items, and ten for structured.

    >>> unique_symbols("coarse-fine", 8000, 128), unique_symbols("atomic", 8000, 128)
    (128, 8128)
    """
    return {"atomic": items + reserved, "structured": DIGITS}.get(scheme, reserved)
