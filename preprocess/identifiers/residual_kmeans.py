"""Residual k-means: what the RQ-VAE does, without its network – k-means of what the levels before have left over.

The scheme `residual-kmeans`; beside `codec.ResidualCodec` it shows what the autoencoder adds to plain residual
quantisation (Juang and Gray, 1982).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cart_fairseq.catalogue.identifiers import Position
from preprocess.data.embeddings import Embeddings
from preprocess.identifiers.clustering import BLOCK_ROWS, NearestCentre, assign, chunks, fit_centres, sample_rows

ROWS_PER_CENTRE = 256
"""Of the sample that all levels but the first are fitted on."""


@dataclass
class ResidualKMeansCodec:
    """Nearest centre of the embedding, then nearest centres of what is left, level after level.

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
            method: of the first level, "minibatch" or "lloyd". The others are Lloyd's on a sample: in what is left by
                the first, mini-batches give most points to a few centres.
            seed: of the samples and of every k-means.
            block_rows: rows of a mini-batch.
        """
        centres = [fit_centres(points, sizes[0], method, seed, block_rows)]
        left = np.array(sample_rows(points, ROWS_PER_CENTRE * max(sizes), seed)[:], dtype=np.float32)
        for level, size in enumerate(sizes[1:], start=1):
            left -= centres[-1][assign(left, centres[-1])]
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
        """(n, levels) int32 -> (n, D) float32, the sum of the centres."""
        return self._sum(codes, len(self.centres))

    @property
    def codewords(self) -> list[int]:
        """Number of centres of each level, no more than its size."""
        return [len(centres) for centres in self.centres]

    def distances(self, embeddings: NDArray[np.floating], codes: NDArray[np.int32], level: int) -> NDArray[np.float32]:
        """(n, D) embeddings to the centres of a level, given (n, levels) values before it; see `reassign`."""
        left = embeddings.astype(np.float32) - self._sum(codes, level)
        return torch.cdist(torch.from_numpy(left), torch.from_numpy(self.centres[level])).square_().numpy()

    def _sum(self, codes: NDArray[np.int32], levels: int) -> NDArray[np.float32]:
        total = np.zeros((len(codes), self.centres[0].shape[1]), dtype=np.float32)
        for level in range(levels):
            total += self.centres[level][codes[:, level]]
        return total

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds: `levels.0`, `levels.1` …"""
        return {f"levels.{level}": centres for level, centres in enumerate(self.centres)}
