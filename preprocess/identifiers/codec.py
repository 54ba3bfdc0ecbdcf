"""The frozen part of an identifier bundle: from an embedding to its semantic values, the same way every time.

Here are `ResidualCodec` (schemes coarse-fine, and rqvae without its coarse value) and `TreeCodec` (hierarchical-kmeans, the
paper's ablation without RQ-VAE, and structured); `residual_kmeans` and `assigned` have the others. `TransformedCodec` puts
normalisation and PCA before any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.catalogue.identifiers import IdentifierBundle, Position
from cart_fairseq.rqvae.network import RQVAE
from preprocess.data.embeddings import Embeddings, RowSubset, blocks
from preprocess.identifiers.assigned import AtomicCodec
from preprocess.identifiers.clustering import BLOCK_ROWS, NearestCentre, assign, chunks, fit_centres
from preprocess.identifiers.collisions import LevelledCodec
from preprocess.identifiers.residual_kmeans import ResidualKMeansCodec
from preprocess.identifiers.transform import Transform


class Codec(Protocol):
    """What every scheme's codec offers.

    A row's values do not depend on what is encoded with it, except that of two centres equally near to it the last digit
    decides, which the size of a matrix product may change.
    """

    @property
    def positions(self) -> list[Position]:
        """The C semantic positions."""

    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) float16 or float32 -> (N, C) int32."""

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, C) int32 -> (n, D) float32, the embedding that the values stand for."""

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds; `restore_codec` is the inverse."""


@dataclass
class ResidualCodec:
    """Nearest k-means centre, then the RQ-VAE's codes of the residual (CART 3.2.1 and 3.2.2).

    centres: (K, D) float32. For the scheme rqvae one centre, the mean of all embeddings, which is no value of the
        identifier: a shift of the origin changes no distance and spares the encoder from learning it.
    clusters: size of the position k, 0 where the scheme has none. At least K.
    rqvae: takes residual / scale.
    scale: root mean square of all residuals, one number, so that learning rates do not depend on the embeddings' unit.
    """

    centres: NDArray[np.float32]
    clusters: int
    rqvae: RQVAE
    scale: float

    @property
    def positions(self) -> list[Position]:
        """k (unless the scheme has none), v1..vM."""
        fine = [Position(f"v{m + 1}", len(codebook)) for m, codebook in enumerate(self.rqvae.codebooks)]
        return ([Position("k", self.clusters)] if self.clusters else []) + fine

    @torch.inference_mode()
    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) float16 or float32 -> (N, C) int32."""
        find, centres = NearestCentre(self.centres), torch.from_numpy(self.centres)
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
    def distances(self, embeddings: NDArray[np.floating], codes: NDArray[np.int32], level: int) -> NDArray[np.float32]:
        """(n, D) embeddings to the codewords of a level, given (n, C) values before it; see `reassign`."""
        points = embeddings.astype(np.float32)
        coarse = bool(self.clusters)
        if coarse and level == 0:
            return torch.cdist(torch.from_numpy(points), torch.from_numpy(self.centres)).square_().numpy()
        points -= self.centres[codes[:, 0] if coarse else np.zeros(len(codes), dtype=np.int32)]
        left = self.rqvae.encoder(torch.from_numpy(points / np.float32(self.scale)))
        for before in range(coarse, level):
            left = left - self.rqvae.codebooks[before - coarse][torch.from_numpy(codes[:, before].astype(np.int64))]
        return torch.cdist(left, self.rqvae.codebooks[level - coarse]).square_().numpy()

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds: `centres`, `scale`, and the RQ-VAE's weights as `rqvae.*`."""
        weights = {f"rqvae.{name}": tensor.cpu().numpy() for name, tensor in self.rqvae.state_dict().items()}
        return {"centres": self.centres, "scale": np.array([self.scale], dtype=np.float64), **weights}


@dataclass
class TreeCodec:
    """A tree of k-means centres; the path from the root is the identifier (the paper's "w/o RQ-VAE").

    Node 0 is the root; the children of a node follow each other. A node without children holds one distinct point:
    its path goes on with zeros.

    centres: (nodes, D) float32.
    first_child: (nodes,) int64; children: (nodes,) int64, their number.
    sizes: the most children a node may have, per level.
    """

    centres: NDArray[np.float32]
    first_child: NDArray[np.int64]
    children: NDArray[np.int64]
    sizes: list[int]

    @classmethod
    def fit(
        cls, embeddings: Embeddings, sizes: list[int], method: str, seed: int, block_rows: int = BLOCK_ROWS
    ) -> "TreeCodec":
        """Split every node by k-means, level by level; a node of no more points than children separates them all."""
        centres = [np.asarray(embeddings[:1], dtype=np.float32)]
        first_child, children = [0], [0]
        nodes = np.zeros(len(embeddings), dtype=np.int64)
        for size in sizes:
            moved = nodes.copy()
            for node, rows in members(nodes):
                points = RowSubset(embeddings, rows)
                split = fit_centres(points, size, method, seed, block_rows)
                if len(split) < 2:
                    continue
                first_child[node], children[node] = len(first_child), len(split)
                moved[rows] = len(first_child) + assign(points, split)
                centres.append(split)
                first_child.extend([0] * len(split))
                children.extend([0] * len(split))
            nodes = moved
        return cls(np.concatenate(centres), np.array(first_child), np.array(children), list(sizes))

    @property
    def positions(self) -> list[Position]:
        """h1..hM."""
        return [Position(f"h{level + 1}", size) for level, size in enumerate(self.sizes)]

    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) float16 or float32 -> (N, levels) int32, the path."""
        codes = np.zeros((len(embeddings), len(self.sizes)), dtype=np.int32)
        nodes = np.zeros(len(embeddings), dtype=np.int64)
        for level in range(len(self.sizes)):
            moved = nodes.copy()
            for node, rows in members(nodes):
                if self.children[node]:
                    first = self.first_child[node]
                    points = RowSubset(embeddings, rows)
                    codes[rows, level] = assign(points, self.centres[first : first + self.children[node]])
                    moved[rows] = first + codes[rows, level]
            nodes = moved
        return codes

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, levels) int32 -> (n, D) float32: the centre at the end of the path."""
        nodes = np.zeros(len(codes), dtype=np.int64)
        for level in range(codes.shape[1]):
            nodes = np.where(self.children[nodes] > 0, self.first_child[nodes] + codes[:, level], nodes)
        return self.centres[nodes]

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds: `tree.centres`, `tree.first_child`, `tree.children`."""
        return {"tree.centres": self.centres, "tree.first_child": self.first_child, "tree.children": self.children}


@dataclass
class TransformedCodec:
    """A codec for what a transform makes of the embeddings."""

    transform: Transform
    inner: Codec

    @property
    def positions(self) -> list[Position]:
        """Those of the inner codec."""
        return self.inner.positions

    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) float16 or float32 -> (N, C) int32."""
        codes = np.empty((len(embeddings), len(self.positions)), dtype=np.int32)
        for block in blocks(*embeddings.shape):
            codes[block] = self.inner.encode(self.transform(embeddings[block]))
        return codes

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, C) int32 -> (n, D) float32: the decoded embedding, of length about 1 where the transform normalises."""
        return self.transform.inverse(self.inner.decode(codes))

    @property
    def codewords(self) -> list[int]:
        """Those of the inner codec, which must have them."""
        return cast(LevelledCodec, self.inner).codewords

    def distances(self, embeddings: NDArray[np.floating], codes: NDArray[np.int32], level: int) -> NDArray[np.float32]:
        """As the inner codec's, for what the transform makes of (n, D) embeddings."""
        return cast(LevelledCodec, self.inner).distances(self.transform(embeddings), codes, level)

    def tensors(self) -> dict[str, np.ndarray]:
        """Those of the inner codec and the transform's."""
        return {**self.inner.tensors(), **self.transform.tensors()}


def load_codec(bundle: IdentifierBundle) -> Codec:
    """The codec that a bundle was built with.

    Raises:
        ValueError: the bundle holds no codec.
    """
    codec = restore_codec(bundle.codec_tensors(), bundle.positions)
    if codec is None:
        raise ValueError(f"{bundle.directory}/codec.safetensors: no codec in it; build the identifiers again")
    return codec


def restore_codec(tensors: dict[str, np.ndarray], positions: Sequence[Position]) -> Codec | None:
    """The codec of these tensors and (at least) its positions; None if they are no codec's."""
    inner = {name: tensor for name, tensor in tensors.items() if not name.startswith("transform.")}
    if len(inner) < len(tensors):
        codec = restore_codec(inner, positions)
        return codec and TransformedCodec(Transform.load(tensors), codec)
    sizes = {position.name: position.size for position in positions}
    if "atomic.mean" in tensors:
        return AtomicCodec(tensors["atomic.mean"])
    if "levels.0" in tensors:
        centres = [tensors[f"levels.{level}"] for level in range(len(tensors))]
        return ResidualKMeansCodec(centres, [position.size for position in positions[: len(centres)]])
    if "tree.centres" in tensors:
        levels = [size for name, size in sizes.items() if name.startswith("h")]
        return TreeCodec(tensors["tree.centres"], tensors["tree.first_child"], tensors["tree.children"], levels)
    if "centres" not in tensors:
        return None
    codebooks = sum(name.startswith("rqvae.codebooks.") for name in tensors)
    size, latent = tensors["rqvae.codebooks.0"].shape
    rqvae = RQVAE(tensors["centres"].shape[1], latent, codebooks, size)
    prefix = "rqvae."
    rqvae.load_state_dict({n.removeprefix(prefix): torch.tensor(t) for n, t in tensors.items() if n.startswith(prefix)})
    rqvae.requires_grad_(False).eval()
    return ResidualCodec(tensors["centres"], sizes.get("k", 0), rqvae, float(tensors["scale"][0]))


def members(nodes: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Pairs of a node and the rows that are in it, both ascending."""
    order = np.argsort(nodes, kind="stable")
    found, starts = np.unique(nodes[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, starts[1:]), strict=True))
