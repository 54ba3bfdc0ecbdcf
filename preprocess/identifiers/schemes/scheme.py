"""The interface of a scheme: how a codec is fitted and restored, and what a codec can do.

A `Scheme` says what `--scheme NAME` means. It fits a `Codec`, which gives every item of a catalogue its semantic values.
The name is recorded in `codec.json`, so that the codec of a bundle can be restored from `codec.safetensors`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.catalogue.positions import Position
from preprocess.data.embeddings import Embeddings
from preprocess.identifiers.settings import FitSettings


class Codec(ABC):
    """The frozen part of an identifier bundle: from an embedding to its C semantic values, the same way every time.

    The values of a row do not depend on the rows encoded with it. The one exception: between two centres at equal
    distance the last digit decides, and the size of a matrix product may change that digit.
    """

    @property
    @abstractmethod
    def positions(self) -> list[Position]:
        """The C semantic positions."""

    @property
    @abstractmethod
    def codewords(self) -> list[int]:
        """How many codewords there are on each of the C levels, at most the size of the position."""

    @property
    @abstractmethod
    def first_centres(self) -> NDArray[np.float32]:
        """(K, d) float32, the centres of the first level; one for all items where the scheme has no such level."""

    @abstractmethod
    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) float16 or float32 -> (N, C) int32."""

    @abstractmethod
    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, C) int32 -> (n, D) float32, the embedding that the values stand for."""

    @abstractmethod
    def distances(self, embeddings: NDArray[np.floating], prefixes: NDArray[np.int32]) -> NDArray[np.float32]:
        """Squared distances of each row's residual, after the values so far, to the codewords of the next level.

        Args:
            embeddings: (n, D).
            prefixes: (n, l) int32 with l < C, each row's values on the levels before.

        Returns:
            (n, codewords) float32; infinite for a value that no code has after this prefix.
        """

    @abstractmethod
    def tensors(self) -> dict[str, np.ndarray]:
        """The content of `codec.safetensors`; `Scheme.restore` is the inverse."""

    # A codec behind a transform overrides the following (`preprocess.identifiers.codec.TransformedCodec`).

    def transformed(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n, D) -> (n, d) float32, the points that are quantised."""
        return np.asarray(embeddings, dtype=np.float32)

    def decode_transformed(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, C) int32 -> (n, d) float32: as `decode`, but in the space of `transformed` and `first_centres`."""
        return self.decode(codes)

    def normalised(self, rows: Tensor) -> Tensor:
        """(n, D) float32 -> (n, D), the rows that `decode` approximates."""
        return rows


class Needed(NamedTuple):
    """What a scheme needs of a catalogue.

    Attributes:
        items: the fewest items.
        by: what needs so many.
        remedy: what to do where there are fewer.
    """

    items: int
    by: str
    remedy: str


class Scheme(ABC):
    """What `--scheme NAME` means.

    Attributes:
        name: as the command line and `codec.json` have it.
        movable: whether there are codes that no item has and that mean something, so that items can move to them.
        tree: whether values below the first level number the children of one node and mean nothing across nodes.
        published: whether the paper describes how it is fitted, so that there is a `--faithful` of it.
        switches: the fields of `IdentifierSettings` that it has a use for, of those in `SWITCHES` and `kmeans`.
    """

    name: str
    movable = False
    tree = False
    published = False
    switches: frozenset[str] = frozenset()

    def codebooks(self, asked: int) -> int:
        """How many lower levels there are where `--codebooks` asks for so many."""
        return asked

    def unique_symbols(self, items: int, reserved: int) -> int:
        """Symbols of each digit of the unique token where `--unique-size` reserves so many."""
        return reserved

    def needed(self, settings: FitSettings) -> Needed | None:
        """An item for each cluster; None where nothing is clustered and any catalogue will do."""
        clusters = settings.kmeans_clusters
        return Needed(clusters, f"--kmeans-clusters {clusters}", "use a smaller --kmeans-clusters")

    @abstractmethod
    def fit(
        self, points: NDArray[np.float32], items: int, settings: FitSettings, work: Path, processes: int = 1
    ) -> Codec:
        """Fit a codec.

        Args:
            points: (n, d) float32, the transformed sample.
            items: N, the size of the whole catalogue.
            work: a folder in which a run that was killed left what it had finished, and finds it again.
            processes: how many train together, where something is trained.
        """

    def given_codes(self) -> NDArray[np.int32] | None:
        """(N, C) int32, the values of all items where they do not come from the embeddings; None where they do."""
        return None

    @abstractmethod
    def restore(self, tensors: dict[str, np.ndarray], positions: Sequence[Position]) -> Codec:
        """The inverse of `Codec.tensors`.

        Args:
            tensors: of `codec.safetensors`, without those of a transform.
            positions: the semantic ones.

        Raises:
            KeyError: a tensor is missing.
        """


def centring_tensor(centring: bool) -> dict[str, np.ndarray]:
    """What `codec.safetensors` says of `--no-centring`; nothing where it is off, as in bundles of earlier versions."""
    return {} if centring else {"centring": np.array([False])}


def centring_of(tensors: dict[str, np.ndarray]) -> bool:
    """The inverse of `centring_tensor`."""
    return "centring" not in tensors
