"""Statistics of prefixes: the log mass below a prefix at a cost that does not grow with the catalogue.

Item vectors are projected onto their first principal axes. A prefix with few items has the mass of these items. A
prefix with more has that of a few sub-clusters of its items, each a mean, a log weight (log sum exp of its items'
biases; log n without biases) and a spread, the variance along an axis. With q for the projected query, a sub-cluster
adds exp(log weight + q · mean + |q|² spread / 2), the mean of exp(q · v) over a normal distribution.

Sub-clusters are found from the leaves upwards by weighted k-means: those of a prefix gather the sub-clusters of its
children. The arrays are files that can be memory-mapped.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cart_fairseq.base.files import replacing, write_json
from cart_fairseq.catalogue.errors import CatalogueError, read_json
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.dense.prefix_clusters import CLUSTERS, Clusters, Points, cluster_depth
from cart_fairseq.search.dense.prefix_mass import segment_logsumexp
from cart_fairseq.search.dense.stored_arrays import REMEDY, check_finite, open_array, save_arrays

AXES = 128
SAMPLE = 16384
BLOCK = 8192
NODES = 1 << 17
"""Number of prefixes of a depth that are checked at once."""
PAIRS = 1 << 14
"""Number of prefixes or leaves that are looked up at once."""
WHOLE = 1 << 16
"""Largest number of sub-clusters of a depth that are all compared with each of many queries, by one matrix product."""
MANY_QUERIES = 32
"""From here on it costs less to compare all of them than to look up those of each query."""
FORMAT = "prefix statistics 1"

Vectors = Callable[[Tensor], Tensor]


class PrefixStatistics(NamedTuple):
    """The statistics of a catalogue of N items for one model or ensemble.

    Attributes:
        basis: (D, P) float32, the principal axes, as orthonormal columns.
        leaves: (N, P) float16, the projected vector of each leaf of the trie.
        bias: (N,) float32, the bias of each leaf; empty for none.
        depths: the sub-clusters of depth 1 to J - 1.
        folder: where the arrays are stored; None for computed ones.
    """

    basis: Tensor
    leaves: Tensor
    bias: Tensor
    depths: tuple[Clusters, ...]
    folder: Path | None = None

    def log_mass(self, trie: IdentifierTrie, depth: int, nodes: Tensor, query: Tensor, queries: Tensor) -> Tensor:
        """Estimate the log mass below prefixes.

        Args:
            trie: the catalogue's trie.
            depth: the length of the prefixes, from 1 to J - 1.
            nodes: (n,) int64 nodes of that depth.
            query: (n,) int64, the query of each node, ascending.
            queries: (B, P) float32, the projected queries.

        Returns:
            (n,) float32.
        """
        begin, end = trie.leaves(depth, nodes)
        found = torch.empty(len(nodes), device=nodes.device)
        many = end - begin > CLUSTERS
        few = ~many
        found[few] = self._of_leaves(begin[few], (end - begin)[few], query[few], queries)
        clusters = self.depths[depth - 1]
        place = torch.searchsorted(clusters.nodes, nodes[many])
        if len(queries) >= MANY_QUERIES and len(clusters.nodes) * CLUSTERS <= WHOLE:
            found[many] = clusters.table(queries)[query[many], place]
        else:
            found[many] = for_each_query(clusters.of_query, place, query[many], queries)
        return found

    def _of_leaves(self, begin: Tensor, counts: Tensor, query: Tensor, queries: Tensor) -> Tensor:
        """Log mass of n runs of leaves: first leaf (n,), number (n,), query (n,), all int64 -> (n,) float32."""
        run = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        place = torch.arange(len(run), device=run.device) + (begin - counts.cumsum(0) + counts)[run]
        parts = zip(place.split(PAIRS), query[run].split(PAIRS), strict=True)
        each = [(self.leaves.index_select(0, at).float() * queries.index_select(0, of)).sum(1) for at, of in parts]
        scores = torch.cat(each) + (self.bias[place] if len(self.bias) else 0)
        return segment_logsumexp(scores.unsqueeze(1), counts).squeeze(1)

    def to(self, device: torch.device) -> "PrefixStatistics":
        """Copy the arrays to a device; on the same device they stay memory-mapped."""
        depths = tuple(Clusters(*(part.to(device) for part in clusters)) for clusters in self.depths)
        basis, leaves, bias = (part.to(device) for part in (self.basis, self.leaves, self.bias))
        return self._replace(basis=basis, leaves=leaves, bias=bias, depths=depths)

    def save(self, folder: Path, key: str) -> None:
        """Write the arrays as ``.npy`` files, atomically.

        Args:
            folder: the folder to create or replace.
            key: identifies what the statistics were computed from; :meth:`open` compares it.
        """
        with replacing(folder, directory=True) as new:
            save_arrays(new, {name: tensor.cpu().numpy() for name, tensor in self._named().items()})
            write_json(new / "statistics.json", {"format": FORMAT, "key": key, "depths": len(self.depths)})

    @classmethod
    def open(cls, folder: Path, key: str, trie: IdentifierTrie) -> "PrefixStatistics":
        """Open saved statistics of a catalogue; the arrays are memory-mapped.

        Raises:
            CatalogueError: a file is missing or damaged, or belongs to another key or catalogue.
        """
        facts = read_json(folder / "statistics.json")
        if facts != {"format": FORMAT, "key": key, "depths": trie.length - 1}:
            raise CatalogueError(f"{folder}: these statistics are of another version, model or catalogue; {REMEDY}")

        def array(name: str, dtype: type, *shape: int | None) -> Tensor:
            return torch.from_numpy(open_array(folder, name, dtype, shape, mapped=True))

        basis = array("basis", np.float32, None, None)
        items, axes = len(trie), basis.size(1)
        depths = []
        for depth in range(1, trie.length):
            nodes = array(f"nodes.{depth}", np.int64, None)
            count = len(nodes)
            if not _are_large(nodes, trie, depth):
                raise CatalogueError(f"{folder}/nodes.{depth}.npy: not the prefixes of this catalogue; {REMEDY}")
            means = array(f"means.{depth}", np.float16, count, CLUSTERS, axes)
            of_clusters = (array(f"{name}.{depth}", np.float32, count, CLUSTERS) for name in ("weights", "spreads"))
            depths.append(Clusters(nodes, means, *of_clusters))
        bias = array("bias", np.float32, None)
        for name, values in {"basis": basis, "bias": bias}.items():
            check_finite(folder, name, values.numpy())
        if len(bias) not in (0, items):
            raise CatalogueError(f"{folder}/bias.npy: holds {len(bias)} values for {items} items; {REMEDY}")
        return cls(basis, array("leaves", np.float16, items, axes), bias, tuple(depths), folder)

    def _named(self) -> dict[str, Tensor]:
        named = {"basis": self.basis, "leaves": self.leaves, "bias": self.bias}
        for depth, clusters in enumerate(self.depths, start=1):
            named |= {f"{part}.{depth}": tensor for part, tensor in clusters._asdict().items()}
        return named


def _are_large(nodes: Tensor, trie: IdentifierTrie, depth: int) -> bool:
    """Whether (n,) int64 are the nodes of a depth with more than ``CLUSTERS`` items, ascending; compared by blocks."""
    seen, number = 0, trie.num_nodes(depth)
    for at in range(0, number, NODES):
        block = torch.arange(at, min(at + NODES, number), device=trie.rows.device)
        begin, end = trie.leaves(depth, block)
        large = block[end - begin > CLUSTERS].cpu()
        if not torch.equal(nodes[seen : seen + len(large)], large):
            return False
        seen += len(large)
    return seen == len(nodes)


def for_each_query(
    scores: Callable[[Tensor, Tensor], Tensor], places: Tensor, query: Tensor, queries: Tensor
) -> Tensor:
    """Score what each query asks for: a matrix times one vector costs less than as many products of two vectors.

    Args:
        scores: maps places (m,) and a query (P,) to the scores of the places (m,) float32; m is at most ``PAIRS``.
        places: (n,) int64.
        query: (n,) int64, the query of each place, ascending.
        queries: (B, P) float32.

    Returns:
        (n,) float32.
    """
    counts = query.bincount(minlength=len(queries)).tolist()
    parts = [
        scores(block, asked)
        for own, asked in zip(places.split(counts), queries, strict=True)
        for block in own.split(PAIRS)
        if len(block)
    ]
    return torch.cat(parts) if parts else queries.new_empty(0)


@torch.no_grad()
def compute_statistics(trie: IdentifierTrie, vectors: Vectors, bias: Tensor | None = None) -> PrefixStatistics:
    """Compute the statistics of a catalogue.

    Args:
        trie: the catalogue's trie, on the CPU or a GPU.
        vectors: maps item rows (n,) int64 to vectors (n, D) float32; called for blocks.
        bias: (N,) float32 by item row, added to the items' scores; None for none.
    """
    rows = trie.rows.long()
    basis = _basis(vectors(rows[torch.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).long().to(rows.device)]))
    leaves = torch.empty(len(rows), basis.size(1), dtype=torch.float16, device=rows.device)
    for at in range(0, len(rows), BLOCK):
        leaves[at : at + BLOCK] = vectors(rows[at : at + BLOCK]) @ basis
    own = torch.empty(0) if bias is None else bias.to(rows.device)[rows].float()
    zeros = torch.zeros(len(rows), device=rows.device)
    points = Points(leaves, own if len(own) else zeros, zeros)
    owners = torch.arange(len(rows), device=rows.device)  # the node of each point
    depths = []
    for depth in range(trie.length - 1, 0, -1):
        owners = torch.searchsorted(trie.first_child[depth], owners.to(trie.first_child[depth].dtype), right=True) - 1
        begin, end = trie.leaves(depth, torch.arange(trie.num_nodes(depth), device=rows.device))
        clusters, points, owners = cluster_depth(points, owners, end - begin > CLUSTERS)
        depths.append(clusters)
    return PrefixStatistics(basis, leaves, own, tuple(reversed(depths)))


def _basis(sample: Tensor) -> Tensor:
    """The first principal axes of vectors (n, D), around 0: (D, P) float32."""
    _, axes = torch.linalg.eigh(sample.T @ sample)
    return axes[:, -AXES:].flip(1).contiguous()
