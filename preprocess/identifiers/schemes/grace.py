"""The identifiers of GRACE, the paper's generative rival (Li et al., 2024; CART Table 3): atomic and structured.

Atomic: every item has a symbol of its own, which is the unique token of an empty code. Structured: the path in a tree of
clusters, ten children a node, as a string of digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.positions import Position
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.identifiers.schemes.scheme import Codec, Needed, Scheme
from preprocess.identifiers.schemes.tree import HierarchicalKMeans
from preprocess.identifiers.settings import FitSettings

DIGITS = 10


@dataclass
class AtomicCodec(Codec):
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

    @property
    def codewords(self) -> list[int]:
        """None."""
        return []

    @property
    def first_centres(self) -> NDArray[np.float32]:
        """(1, D) float32, the mean."""
        return self.mean

    def distances(self, embeddings: NDArray[np.floating], prefixes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, 0) float32: there is no level that an item could have another value on."""
        return np.empty((len(embeddings), 0), dtype=np.float32)

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds: `atomic.mean`."""
        return {"atomic.mean": self.mean}


class Atomic(Scheme):
    """One symbol an item."""

    name = "atomic"

    def needed(self, settings: FitSettings) -> Needed | None:
        """Nothing: no item is clustered."""
        return None

    def unique_symbols(self, items: int, reserved: int) -> int:
        """A symbol for every item, and `reserved` more for items that are added later."""
        return items + reserved

    def fit(
        self, points: NDArray[np.float32], items: int, settings: FitSettings, work: Path, processes: int = 1
    ) -> AtomicCodec:
        """The mean."""
        return AtomicCodec.fit(points)

    def restore(self, tensors: dict[str, np.ndarray], positions: Sequence[Position]) -> AtomicCodec:
        """The inverse of `AtomicCodec.tensors`."""
        return AtomicCodec(tensors["atomic.mean"])


class Structured(HierarchicalKMeans):
    """A tree with ten children a node, and a unique token of decimal digits."""

    name = "structured"
    published = False

    def level_sizes(self, items: int, settings: FitSettings) -> list[int]:
        """Ten on every level; see `digit_levels`."""
        return digit_levels(items)

    def needed(self, settings: FitSettings) -> Needed:
        """An item for each child of the root."""
        return Needed(DIGITS, f"a tree of {DIGITS} children a node", "give more")

    def unique_symbols(self, items: int, reserved: int) -> int:
        """Ten."""
        return DIGITS


def digit_levels(items: int) -> list[int]:
    """Sizes of the structured scheme's levels: ten each, as many as numbers below `items` have digits.

    >>> digit_levels(8000), digit_levels(1)
    ([10, 10, 10, 10], [10])
    """
    return [DIGITS] * len(str(items - 1))
