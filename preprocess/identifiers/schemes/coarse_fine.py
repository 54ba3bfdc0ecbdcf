"""Coarse-fine identifiers, the paper's: k-means, then an RQ-VAE of the residuals (CART 3.2.1 and 3.2.2).

The scheme `rqvae` is the same without k-means, with one more codebook instead (the paper's "w/o k-means").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.positions import Position
from cart_fairseq.rqvae.network import RQVAE
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.data.kept import is_whole, keeping
from preprocess.identifiers.clustering import centre_finder, chunks, fit_centres, nearest_centres
from preprocess.identifiers.rqvae_runner import train_rqvae
from preprocess.identifiers.schemes.scheme import Codec, Needed, Scheme, centring_of, centring_tensor
from preprocess.identifiers.settings import SWITCHES, FitSettings

SCALE = "scale.json"


@dataclass
class ResidualCodec(Codec):
    """Nearest k-means centre, then the RQ-VAE's codes of the residual (CART 3.2.1 and 3.2.2).

    centres: (K, D) float32. For the scheme rqvae one centre, the mean of all embeddings, which is no value of the
        identifier. A shift of the origin changes no distance, and the encoder need not learn it. Without centring it
        is zero.
    clusters: size of the position k, 0 where the scheme has none. At least K.
    rqvae: takes residual / scale.
    scale: root mean square of all residuals, one number, so that learning rates do not depend on the embeddings'
        unit; 1 where residuals are not scaled.
    centring: see `nearest_centres`.
    """

    centres: NDArray[np.float32]
    clusters: int
    rqvae: RQVAE
    scale: float
    centring: bool = True

    @property
    def positions(self) -> list[Position]:
        """k (unless the scheme has none), v1..vM."""
        fine = [Position(f"v{m + 1}", len(codebook)) for m, codebook in enumerate(self.rqvae.codebooks)]
        return ([Position("k", self.clusters)] if self.clusters else []) + fine

    @torch.inference_mode()
    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) float16 or float32 -> (N, C) int32."""
        find, centres = centre_finder(self.centres, self.centring), torch.from_numpy(self.centres)
        codes = np.empty((len(embeddings), len(self.positions)), dtype=np.int32)
        scratch: Tensor | None = None
        for rows, chunk in chunks(embeddings):
            scratch = torch.empty_like(chunk) if scratch is None else scratch[: len(chunk)]
            coarse = find(chunk, scratch)
            # Into buffers that are reused: fresh memory for every chunk costs as much as a matrix product.
            torch.index_select(centres, 0, coarse, out=scratch)
            if self.clusters:
                codes[rows, 0] = coarse
            codes[rows, bool(self.clusters) :] = self.rqvae.encode(chunk.sub_(scratch).div_(self.scale))
        return codes

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, C) int32 -> (n, D) float32: centre plus the decoded residual."""
        coarse = codes[:, 0] if self.clusters else np.zeros(len(codes), dtype=np.int32)
        fine = codes[:, 1:] if self.clusters else codes
        residual: NDArray[np.float32] = self.rqvae.decode(torch.from_numpy(fine.astype(np.int64))).numpy()
        return self.centres[coarse] + np.float32(self.scale) * residual

    @property
    def codewords(self) -> list[int]:
        """Number of codewords of each position."""
        fine = [len(codebook) for codebook in self.rqvae.codebooks]
        return [len(self.centres), *fine] if self.clusters else fine

    @torch.inference_mode()
    def distances(self, embeddings: NDArray[np.floating], prefixes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, D) embeddings and (n, l) values -> (n, codewords) float32; see `Codec.distances`."""
        points, level, coarse = embeddings.astype(np.float32), prefixes.shape[1], bool(self.clusters)
        if coarse and level == 0:
            return torch.cdist(torch.from_numpy(points), torch.from_numpy(self.centres)).square_().numpy()
        points -= self.centres[prefixes[:, 0] if coarse else np.zeros(len(prefixes), dtype=np.int32)]
        left = self.rqvae.encoder(torch.from_numpy(points / np.float32(self.scale)))
        for before in range(coarse, level):
            left = left - self.rqvae.codebooks[before - coarse][torch.from_numpy(prefixes[:, before].astype(np.int64))]
        return torch.cdist(left, self.rqvae.codebooks[level - coarse]).square_().numpy()

    @property
    def first_centres(self) -> NDArray[np.float32]:
        """(K, D) float32, `centres`."""
        return self.centres

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds: `centres`, `scale`, the RQ-VAE's weights as `rqvae.*`; `centring` if off."""
        weights = {f"rqvae.{name}": tensor.cpu().numpy() for name, tensor in self.rqvae.state_dict().items()}
        scale = np.array([self.scale], dtype=np.float64)
        return {"centres": self.centres, "scale": scale, **weights, **centring_tensor(self.centring)}


class CoarseFine(Scheme):
    """k-means of the embeddings, then an RQ-VAE of the residuals.

    Args:
        name: of the scheme.
        coarse: whether the k-means centre is a value of the identifier. If not, there is one centre, the mean.
    """

    movable = True
    published = True

    def __init__(self, name: str, coarse: bool):
        self.name = name
        self.coarse = coarse
        self.switches = frozenset({*SWITCHES, "kmeans"} if coarse else SWITCHES)

    def codebooks(self, asked: int) -> int:
        """One more codebook takes the place of the coarse level."""
        return asked if self.coarse else asked + 1

    def needed(self, settings: FitSettings) -> Needed | None:
        """Without clusters, an item for each codeword."""
        if self.coarse:
            return super().needed(settings)
        size = settings.training.codebook_size
        return Needed(size, f"--codebook-size {size}", "use a smaller --codebook-size")

    def fit(
        self, points: NDArray[np.float32], items: int, settings: FitSettings, work: Path, processes: int = 1
    ) -> ResidualCodec:
        """Fit in stages; `work` receives `centres.npy`, `residuals.npy`, `scale.json` and `checkpoints/`."""
        training, clusters = settings.training, settings.kmeans_clusters if self.coarse else 0
        centres_path, residuals_path = work / "centres.npy", work / "residuals.npy"
        if not is_whole(centres_path):
            centres = self.fit_centres(points, settings)
            with keeping(centres_path) as new, open(new, "wb") as file:
                np.save(file, centres)
        centres = np.load(centres_path, allow_pickle=False)
        if not (is_whole(residuals_path) and is_whole(residuals_path.with_name(SCALE))):
            write_residuals(residuals_path, points, centres, settings)
        scale = float(read_json(work / SCALE))
        rqvae = train_rqvae(residuals_path, work, training, processes)
        return ResidualCodec(centres, clusters, rqvae, scale, settings.centring)

    def fit_centres(self, points: NDArray[np.float32], settings: FitSettings) -> NDArray[np.float32]:
        """(K, d) float32 k-means centres of (n, d) points; without a coarse level (1, d), their mean or zero."""
        if not self.coarse and not settings.centring:
            return np.zeros((1, points.shape[1]), dtype=np.float32)
        clusters, seed = settings.kmeans_clusters if self.coarse else 1, settings.training.seed
        return fit_centres(points, clusters, settings.kmeans, seed, settings.block_rows, settings.centring)

    def restore(self, tensors: dict[str, np.ndarray], positions: Sequence[Position]) -> ResidualCodec:
        """The inverse of `ResidualCodec.tensors`."""
        prefix = "rqvae."
        weights = {
            name.removeprefix(prefix): torch.tensor(tensors[name]) for name in tensors if name.startswith(prefix)
        }
        codebooks = sum(name.startswith("codebooks.") for name in weights)
        centres, (size, latent) = tensors["centres"], tensors["rqvae.codebooks.0"].shape
        rqvae = RQVAE(centres.shape[1], latent, codebooks, size)
        rqvae.load_state_dict(weights)
        rqvae.requires_grad_(False).eval()
        clusters, scale = positions[0].size if self.coarse else 0, float(tensors["scale"][0])
        return ResidualCodec(centres, clusters, rqvae, scale, centring_of(tensors))


def write_residuals(
    path: Path, points: NDArray[np.float32], centres: NDArray[np.float32], settings: FitSettings
) -> None:
    """Write (point - nearest centre) / scale, (n, d) float32, for every point, and the scale as scale.json beside."""
    nearest, block_rows, total = nearest_centres(points, centres, settings.centring), settings.block_rows, 0.0
    for block in blocks(len(points), points.shape[1], block_rows) if settings.residual_scale else ():
        total += float(np.square(points[block] - centres[nearest[block]], dtype=np.float64).sum())
    scale = (total / points.size) ** 0.5 or 1.0
    with keeping(path.with_name(SCALE)) as new:
        write_json(new, scale)
    with keeping(path) as new:
        out = new_array(new, np.float32, points.shape)
        for block in blocks(len(points), points.shape[1], block_rows):
            out[block] = (points[block] - centres[nearest[block]]) / np.float32(scale)
        out.flush()
