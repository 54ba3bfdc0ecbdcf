"""The frozen part of an identifier bundle: from an embedding to its semantic values, the same way every time.

Two codecs, for the three schemes: `ResidualCodec` (coarse-fine, and rqvae without its coarse value) and `TreeCodec`
(hierarchical k-means, the paper's ablation without RQ-VAE). Both offer `encode`, `decode`, `positions` and `tensors`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cart_fairseq.identifiers import IdentifierBundle, Position
from cart_fairseq.rqvae import RQVAE
from preprocess.clustering import assign, fit_centres
from preprocess.inputs import Embeddings, blocks

ENCODE_ROWS = 4096


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

    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) float16 or float32 -> (N, C) int32."""
        nearest = assign(embeddings, self.centres)
        fine = np.empty((len(embeddings), len(self.rqvae.codebooks)), dtype=np.int32)
        for start in range(0, len(embeddings), ENCODE_ROWS):
            block = slice(start, start + ENCODE_ROWS)
            residual = residuals(embeddings, self.centres, nearest, block) / np.float32(self.scale)
            fine[block] = self.rqvae.encode(torch.from_numpy(residual)).numpy()
        return np.column_stack([nearest, fine]) if self.clusters else fine

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, C) int32 -> (n, D) float32: centre plus the decoded residual."""
        coarse = codes[:, 0] if self.clusters else np.zeros(len(codes), dtype=np.int32)
        fine = codes[:, 1:] if self.clusters else codes
        residual: NDArray[np.float32] = self.rqvae.decode(torch.from_numpy(fine.astype(np.int64))).numpy()
        return self.centres[coarse] + np.float32(self.scale) * residual

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds: `centres`, `scale`, and the RQ-VAE's weights as `rqvae.*`."""
        weights = {f"rqvae.{name}": tensor.cpu().numpy() for name, tensor in self.rqvae.state_dict().items()}
        return {"centres": self.centres, "scale": np.array([self.scale], dtype=np.float64), **weights}


def residuals(
    embeddings: Embeddings, centres: NDArray[np.float32], nearest: NDArray[np.int32], block: slice
) -> NDArray[np.float32]:
    """Embedding minus its centre for a block of rows, (block, D) float32."""
    return np.asarray(embeddings[block], dtype=np.float32) - centres[nearest[block]]


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
    def fit(cls, embeddings: Embeddings, sizes: list[int], method: str, seed: int) -> "TreeCodec":
        """Split every node by k-means, level by level; a node of no more points than children separates them all."""
        centres = [np.asarray(embeddings[:1], dtype=np.float32)]
        first_child, children = [0], [0]
        nodes = np.zeros(len(embeddings), dtype=np.int64)
        for size in sizes:
            moved = nodes.copy()
            for node, rows in members(nodes):
                points = embeddings[rows]
                split = fit_centres(points, size, method, seed)
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
                    codes[rows, level] = assign(embeddings[rows], self.centres[first : first + self.children[node]])
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


Codec = ResidualCodec | TreeCodec


def load_codec(bundle: IdentifierBundle) -> Codec:
    """The codec that a bundle was built with.

    Raises:
        ValueError: the bundle holds no codec.
    """
    tensors = bundle.codec_tensors()
    sizes = {position.name: position.size for position in bundle.positions}
    if "tree.centres" in tensors:
        levels = [size for name, size in sizes.items() if name.startswith("h")]
        return TreeCodec(tensors["tree.centres"], tensors["tree.first_child"], tensors["tree.children"], levels)
    if "centres" not in tensors:
        raise ValueError(f"{bundle.directory}/codec.safetensors: no codec in it; build the identifiers again")
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


def reconstruction_error(codec: Codec, embeddings: Embeddings, codes: NDArray[np.int32]) -> float:
    """Mean squared error of the decoded embeddings relative to their variance: 0 exact, 1 no better than the mean."""
    total = np.zeros(embeddings.shape[1])
    for block in blocks(*embeddings.shape):
        total += np.asarray(embeddings[block], dtype=np.float64).sum(axis=0)
    mean = total / len(embeddings)
    error = variance = 0.0
    for block in blocks(*embeddings.shape):
        here = np.asarray(embeddings[block], dtype=np.float64)
        error += float(np.square(here - codec.decode(codes[block])).sum())
        variance += float(np.square(here - mean).sum())
    return error / variance if variance else 0.0
