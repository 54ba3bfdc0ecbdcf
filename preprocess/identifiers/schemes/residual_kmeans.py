"""Residual k-means: each level is k-means of the residuals of the levels before, as in an RQ-VAE without its network.

It is no scheme of the paper. Beside coarse-fine it shows what the autoencoder adds to plain residual quantisation (Juang
and Gray, 1982).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cart_fairseq.catalogue.positions import Position
from preprocess.data.embeddings import Embeddings
from preprocess.identifiers.clustering import NearestCentre, chunks, fit_centres, nearest_centres, sample_rows
from preprocess.identifiers.schemes.scheme import Codec, Scheme
from preprocess.identifiers.settings import BLOCK_ROWS, FitSettings

ROWS_PER_CENTRE = 256
"""Size of the sample that all levels but the first are fitted on."""


@dataclass
class ResidualKMeansCodec(Codec):
    """Nearest centre of the embedding, then nearest centre of the residual, level after level.

    centres: for each level (at most its size, D) float32.
    sizes: how many values each level may have.
    """

    centres: list[NDArray[np.float32]]
    sizes: list[int]

    @classmethod
    def fit(
        cls, points: Embeddings, sizes: list[int], method: str, seed: int, block_rows: int = BLOCK_ROWS
    ) -> "ResidualKMeansCodec":
        """k-means level after level.

        Args:
            points: (n, D) float16 or float32.
            sizes: of the levels.
            method: of the first level, see `fit_centres`. The others are fitted by "lloyd" on a sample: with
                mini-batches, most residuals fall to a few centres.
            seed: of the samples and of every k-means.
            block_rows: rows of a mini-batch.
        """
        centres = [fit_centres(points, sizes[0], method, seed, block_rows)]
        left = np.array(sample_rows(points, ROWS_PER_CENTRE * max(sizes), seed)[:], dtype=np.float32)
        for level, size in enumerate(sizes[1:], start=1):
            left -= centres[-1][nearest_centres(left, centres[-1])]
            centres.append(fit_centres(left, size, "lloyd", seed + level))
        return cls(centres, list(sizes))

    @property
    def positions(self) -> list[Position]:
        """k, v1..vM."""
        return [Position(f"v{level}" if level else "k", size) for level, size in enumerate(self.sizes)]

    @torch.inference_mode()
    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) float16 or float32 -> (N, levels) int32."""
        levels = [(NearestCentre(centres), torch.from_numpy(centres)) for centres in self.centres]
        codes = np.empty((len(embeddings), len(levels)), dtype=np.int32)
        for rows, left in chunks(embeddings):
            for level, (find, centres) in enumerate(levels):
                found = find(left)
                codes[rows, level] = found.numpy()
                left.sub_(centres[found])
        return codes

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, l) int32, values of the first l levels -> (n, D) float32, the sum of their centres."""
        total = np.zeros((len(codes), self.centres[0].shape[1]), dtype=np.float32)
        for centres, column in zip(self.centres, codes.T, strict=False):
            total += centres[column]
        return total

    @property
    def codewords(self) -> list[int]:
        """Number of centres of each level, no more than its size."""
        return [len(centres) for centres in self.centres]

    @property
    def first_centres(self) -> NDArray[np.float32]:
        """(at most the first size, D) float32."""
        return self.centres[0]

    def distances(self, embeddings: NDArray[np.floating], prefixes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, D) embeddings and (n, l) values -> (n, codewords) float32; see `Codec.distances`."""
        left = embeddings.astype(np.float32) - self.decode(prefixes)
        centres = self.centres[prefixes.shape[1]]
        return torch.cdist(torch.from_numpy(left), torch.from_numpy(centres)).square_().numpy()

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds: `levels.0`, `levels.1` …"""
        return {f"levels.{level}": centres for level, centres in enumerate(self.centres)}


class ResidualKMeans(Scheme):
    """`--kmeans-clusters` centres, then `--codebooks` levels of `--codebook-size` centres each."""

    name = "residual-kmeans"
    movable = True
    switches = frozenset({"kmeans"})

    def fit(
        self, points: NDArray[np.float32], items: int, settings: FitSettings, work: Path, processes: int = 1
    ) -> ResidualKMeansCodec:
        """k-means level after level."""
        seed = settings.training.seed
        return ResidualKMeansCodec.fit(points, settings.level_sizes, settings.kmeans, seed, settings.block_rows)

    def restore(self, tensors: dict[str, np.ndarray], positions: Sequence[Position]) -> ResidualKMeansCodec:
        """The inverse of `ResidualKMeansCodec.tensors`."""
        centres = [tensors[f"levels.{level}"] for level in range(len(positions))]
        return ResidualKMeansCodec(centres, [position.size for position in positions])
