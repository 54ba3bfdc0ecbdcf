"""A tree of k-means clusters; the path from the root is the identifier (the paper's ablation "w/o RQ-VAE")."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.positions import Position
from preprocess.data.embeddings import Embeddings, RowSubset
from preprocess.identifiers.clustering import fit_centres, nearest_centres
from preprocess.identifiers.schemes.scheme import Codec, Scheme, centring_of, centring_tensor
from preprocess.identifiers.settings import BLOCK_ROWS, FitSettings


@dataclass
class TreeCodec(Codec):
    """A tree of k-means centres; the path from the root is the code.

    Node 0 is the root; the children of a node follow each other. A node without children holds one distinct point:
    its path goes on with zeros.

    centres: (nodes, D) float32.
    first_child: (nodes,) int64; children: (nodes,) int64, their number.
    sizes: the most children a node may have, per level.
    centring: see `nearest_centres`.
    """

    centres: NDArray[np.float32]
    first_child: NDArray[np.int64]
    children: NDArray[np.int64]
    sizes: list[int]
    centring: bool = True

    @classmethod
    def fit(
        cls,
        embeddings: Embeddings,
        sizes: list[int],
        method: str,
        seed: int,
        block_rows: int = BLOCK_ROWS,
        centring: bool = True,
    ) -> "TreeCodec":
        """Split every node by k-means, level by level; a node with no more points than children separates them all."""
        centres = [np.asarray(embeddings[:1], dtype=np.float32)]
        first_child, children = [0], [0]
        nodes = np.zeros(len(embeddings), dtype=np.int64)
        for size in sizes:
            moved = nodes.copy()
            for node, rows in members(nodes):
                points = RowSubset(embeddings, rows)
                split = fit_centres(points, size, method, seed, block_rows, centring)
                if len(split) < 2:
                    continue
                first_child[node], children[node] = len(first_child), len(split)
                moved[rows] = len(first_child) + nearest_centres(points, split, centring)
                centres.append(split)
                first_child.extend([0] * len(split))
                children.extend([0] * len(split))
            nodes = moved
        return cls(np.concatenate(centres), np.array(first_child), np.array(children), list(sizes), centring)

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
                    centres = self.centres[first : first + self.children[node]]
                    codes[rows, level] = nearest_centres(points, centres, self.centring)
                    moved[rows] = first + codes[rows, level]
            nodes = moved
        return codes

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, levels) int32 -> (n, D) float32: the centre at the end of the path."""
        return self.centres[self._nodes(codes)]

    def distances(self, embeddings: NDArray[np.floating], prefixes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, D) embeddings and (n, l) paths -> (n, codewords) float32, to the children of the nodes at their ends.

        A path that ends before goes on with zeros, at distance 0.
        """
        points = np.asarray(embeddings, dtype=np.float32)
        distances = np.full((len(points), self.sizes[prefixes.shape[1]]), np.inf, dtype=np.float32)
        for row, (point, node) in enumerate(zip(points, self._nodes(prefixes).tolist(), strict=True)):
            first, children = self.first_child[node], self.children[node]
            distances[row, :children] = np.square(self.centres[first : first + children] - point).sum(axis=1)
            if not children:
                distances[row, 0] = 0
        return distances

    @property
    def codewords(self) -> list[int]:
        """The most children that a node of each level may have."""
        return self.sizes

    @property
    def first_centres(self) -> NDArray[np.float32]:
        """(children of the root, D) float32; the root itself where it has none."""
        first = self.first_child[0]
        return self.centres[first : first + max(1, self.children[0])]

    def _nodes(self, paths: NDArray[np.int32]) -> NDArray[np.int64]:
        """(n,) int64, the nodes at the end of (n, l) paths."""
        nodes = np.zeros(len(paths), dtype=np.int64)
        for column in paths.T:
            nodes = np.where(self.children[nodes] > 0, self.first_child[nodes] + column, nodes)
        return nodes

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds: `tree.centres`, `tree.first_child`, `tree.children`; `centring` if off."""
        return {
            "tree.centres": self.centres,
            "tree.first_child": self.first_child,
            "tree.children": self.children,
            **centring_tensor(self.centring),
        }


class HierarchicalKMeans(Scheme):
    """`--kmeans-clusters` children of the root, `--codebook-size` of every other node, `--codebooks` + 1 levels."""

    name = "hierarchical-kmeans"
    tree = True
    published = True
    switches = frozenset({"kmeans", "centring"})

    def level_sizes(self, items: int, settings: FitSettings) -> list[int]:
        """The most children of a node on each level."""
        return settings.level_sizes

    def fit(
        self, points: NDArray[np.float32], items: int, settings: FitSettings, work: Path, processes: int = 1
    ) -> TreeCodec:
        """k-means of every node."""
        sizes = self.level_sizes(items, settings)
        seed = settings.training.seed
        return TreeCodec.fit(points, sizes, settings.kmeans, seed, settings.block_rows, settings.centring)

    def restore(self, tensors: dict[str, np.ndarray], positions: Sequence[Position]) -> TreeCodec:
        """The inverse of `TreeCodec.tensors`."""
        sizes = [position.size for position in positions]
        nodes = tensors["tree.centres"], tensors["tree.first_child"], tensors["tree.children"]
        return TreeCodec(*nodes, sizes, centring_of(tensors))


def members(nodes: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Pairs of a node and the rows that are in it, both ascending."""
    order = np.argsort(nodes, kind="stable")
    found, starts = np.unique(nodes[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, starts[1:]), strict=True))
