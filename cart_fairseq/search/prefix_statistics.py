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

from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.files import read_json, replacing, write_json

AXES = 128
CLUSTERS = 8
ROUNDS = 6
SAMPLE = 16384
BLOCK = 8192
PAIRS = 1 << 14
"""Prefixes that are looked up at once; each reads ``CLUSTERS`` x ``AXES`` numbers."""
FORMAT = "prefix statistics 1"

Vectors = Callable[[Tensor], Tensor]


class Clusters(NamedTuple):
    """The sub-clusters of the prefixes of one depth that have more than ``CLUSTERS`` items.

    Attributes:
        nodes: (m,) int64, the prefixes, ascending.
        means: (m, CLUSTERS, P) float16.
        weights: (m, CLUSTERS) float32, log weights; -inf for an unused place.
        spreads: (m, CLUSTERS) float32.
    """

    nodes: Tensor
    means: Tensor
    weights: Tensor
    spreads: Tensor


class PrefixStatistics(NamedTuple):
    """The statistics of a catalogue of N items for one model or ensemble.

    Attributes:
        basis: (D, P) float32, the principal axes, as orthonormal columns.
        leaves: (N, P) float16, the projected vector of each leaf of the trie.
        bias: (N,) float32, the bias of each leaf; empty for none.
        depths: the sub-clusters of depth 1 to J - 1.
    """

    basis: Tensor
    leaves: Tensor
    bias: Tensor
    depths: tuple[Clusters, ...]

    def log_mass(self, trie: IdentifierTrie, depth: int, nodes: Tensor, queries: Tensor) -> Tensor:
        """Estimate the log mass below prefixes.

        Args:
            trie: the catalogue's trie.
            depth: the length of the prefixes, from 1 to J - 1.
            nodes: (n,) int64 nodes of that depth.
            queries: (n, P) float32, the projected query of each node.

        Returns:
            (n,) float32.
        """
        parts = zip(nodes.split(PAIRS), queries.split(PAIRS), strict=True)
        return torch.cat([self._block(trie, depth, *part) for part in parts])

    def _block(self, trie: IdentifierTrie, depth: int, nodes: Tensor, queries: Tensor) -> Tensor:
        begin, end = trie.leaves(depth, nodes)
        found = torch.empty(len(nodes), device=nodes.device)
        many = end - begin > CLUSTERS
        few = ~many
        if few.any():
            place = begin[few].unsqueeze(1) + torch.arange(CLUSTERS, device=nodes.device)
            missing = place >= end[few].unsqueeze(1)
            place.clamp_(max=len(self.leaves) - 1)
            scores = torch.einsum("nkp,np->nk", self.leaves[place].float(), queries[few])
            if len(self.bias):
                scores += self.bias[place]
            found[few] = scores.masked_fill_(missing, float("-inf")).logsumexp(1)
        if many.any():
            clusters, asked = self.depths[depth - 1], queries[many]
            place = torch.searchsorted(clusters.nodes, nodes[many])
            scores = torch.einsum("nkp,np->nk", clusters.means[place].float(), asked) + clusters.weights[place]
            scores += clusters.spreads[place] * (asked.square().sum(1, keepdim=True) / 2)
            found[many] = scores.logsumexp(1)
        return found

    def to(self, device: torch.device) -> "PrefixStatistics":
        """Copy the arrays to a device; on the same device they stay memory-mapped."""
        depths = tuple(Clusters(*(part.to(device) for part in clusters)) for clusters in self.depths)
        return PrefixStatistics(self.basis.to(device), self.leaves.to(device), self.bias.to(device), depths)

    def save(self, folder: Path, key: str) -> None:
        """Write the arrays as ``.npy`` files, atomically.

        Args:
            folder: the folder to create or replace.
            key: identifies what the statistics were computed from; :meth:`open` compares it.
        """
        with replacing(folder, directory=True) as new:
            for name, tensor in self._named().items():
                np.save(new / f"{name}.npy", tensor.cpu().numpy(), allow_pickle=False)
            write_json(new / "statistics.json", {"format": FORMAT, "key": key, "depths": len(self.depths)})

    @classmethod
    def open(cls, folder: Path, key: str) -> "PrefixStatistics":
        """Open saved statistics; the arrays are memory-mapped.

        Raises:
            ValueError: a file is missing or damaged, or belongs to another key.
        """
        remedy = "remove the folder; python -m cart_fairseq.tune makes it again"
        facts = read_json(folder / "statistics.json")
        if facts.get("format") != FORMAT or facts.get("key") != key:
            raise ValueError(f"{folder}: these statistics are of another version, model or catalogue; {remedy}")

        def array(name: str) -> Tensor:
            try:
                # mode c: torch wants writable memory; what is written there stays in memory
                return torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False))
            except (OSError, ValueError) as error:
                raise ValueError(f"{folder}/{name}.npy: missing or damaged ({error}); {remedy}") from None

        depths = [Clusters(*(array(f"{part}.{d}") for part in Clusters._fields)) for d in range(1, facts["depths"] + 1)]
        return cls(array("basis"), array("leaves"), array("bias"), tuple(depths))

    def _named(self) -> dict[str, Tensor]:
        named = {"basis": self.basis, "leaves": self.leaves, "bias": self.bias}
        for depth, clusters in enumerate(self.depths, start=1):
            named |= {f"{part}.{depth}": tensor for part, tensor in clusters._asdict().items()}
        return named


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
        clusters, points, owners = _level(points, owners, end - begin > CLUSTERS)
        depths.append(clusters)
    return PrefixStatistics(basis, leaves, own, tuple(reversed(depths)))


class Points(NamedTuple):
    """Weighted points: leaves, or sub-clusters of the depth below.

    Attributes:
        means: (n, P) float16.
        weights: (n,) float32, log weights.
        spreads: (n,) float32.
    """

    means: Tensor
    weights: Tensor
    spreads: Tensor

    def at(self, places: Tensor) -> "Points":
        """Return some of the points, in single precision."""
        return Points(self.means[places].float(), self.weights[places], self.spreads[places])


def _basis(sample: Tensor) -> Tensor:
    """The first principal axes of vectors (n, D), around 0: (D, P) float32."""
    _, axes = torch.linalg.eigh(sample.T @ sample)
    return axes[:, -AXES:].flip(1).contiguous()


def _level(points: Points, owners: Tensor, many: Tensor) -> tuple[Clusters, Points, Tensor]:
    """Cluster the points of one depth's prefixes.

    Args:
        points: n points, the points of each node consecutive.
        owners: (n,) int64, the node of each point, ascending.
        many: (nodes,) bool, whether a node has sub-clusters; the points of other nodes are passed on.

    Returns:
        The sub-clusters, and the points of this depth with the node of each.
    """
    nodes = many.nonzero().squeeze(1)
    inside = many[owners].nonzero().squeeze(1)
    number = torch.searchsorted(nodes, owners[inside])  # of the node among those with sub-clusters
    ends = torch.searchsorted(number, torch.arange(len(nodes), device=nodes.device), right=True)
    parts, begin = [], 0
    while begin < len(nodes):  # whole nodes, about BLOCK points at once
        start = int(ends[begin - 1]) if begin else 0
        stop = max(begin + 1, int(torch.searchsorted(ends, start + BLOCK, right=True)))
        chosen = inside[start : int(ends[stop - 1])]
        parts.append(_cluster(points.at(chosen), number[start : start + len(chosen)] - begin, stop - begin))
        begin = stop
    width = points.means.size(1)
    empty = (torch.empty(0, CLUSTERS, width), torch.empty(0, CLUSTERS), torch.empty(0, CLUSTERS))
    means, weights, spreads = (torch.cat(column) for column in zip(*parts, strict=True)) if parts else empty
    clusters = Clusters(nodes, means.half(), weights, spreads)
    outside = (~many[owners]).nonzero().squeeze(1)
    used = weights.flatten() > float("-inf")
    owners = torch.cat([owners[outside], nodes.repeat_interleave(CLUSTERS)[used]])
    order = owners.argsort(stable=True)
    merged = Points(
        torch.cat([points.means[outside], clusters.means.view(-1, width)[used]])[order],
        torch.cat([points.weights[outside], weights.flatten()[used]])[order],
        torch.cat([points.spreads[outside], spreads.flatten()[used]])[order],
    )
    return clusters, merged, owners[order]


def _cluster(points: Points, group: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted k-means inside each group of points.

    Args:
        points: n points.
        group: (n,) int64, the group of each, ascending.
        groups: the number of groups.

    Returns:
        Means (groups, CLUSTERS, P), log weights (groups, CLUSTERS) and spreads (groups, CLUSTERS), float32.
    """
    means, weights, spreads = points
    width = means.size(1)
    largest = weights.new_full((groups,), float("-inf")).scatter_reduce_(0, group, weights, "amax")
    share = (weights - largest[group]).exp()
    squares = means.square().sum(1)
    cluster = group * CLUSTERS + _farthest_first(means, group, groups)
    for attempt in range(ROUNDS + 1):
        total = share.new_zeros(groups * CLUSTERS).index_add_(0, cluster, share)
        sums = means.new_zeros(groups * CLUSTERS, width).index_add_(0, cluster, means * share.unsqueeze(1))
        centres = sums / total.clamp(min=1e-30).unsqueeze(1)
        if attempt == ROUNDS:
            break
        near = torch.einsum("nkp,np->nk", centres.view(groups, CLUSTERS, width)[group], means)
        near -= centres.square().sum(1).view(groups, CLUSTERS)[group] / 2
        near.masked_fill_((total == 0).view(groups, CLUSTERS)[group], float("-inf"))
        cluster = group * CLUSTERS + near.argmax(1)
    distance = (squares - 2 * (means * centres[cluster]).sum(1) + centres[cluster].square().sum(1)).clamp(min=0)
    inner = share.new_zeros(groups * CLUSTERS).index_add_(0, cluster, share * (distance / width + spreads))
    shape = (groups, CLUSTERS)
    log_weights = total.log().view(shape) + largest.unsqueeze(1)
    return centres.view(*shape, width), log_weights, (inner / total.clamp(min=1e-30)).view(shape)


def _farthest_first(points: Tensor, group: Tensor, groups: int) -> Tensor:
    """Assign points to the nearest of ``CLUSTERS`` of their group, each the one farthest from those before it.

    Outliers get sub-clusters of their own: at a high scale, one item near the query has most of the mass.

    Args:
        points: (n, P) float32.
        group: (n,) int64, the group of each point.
        groups: the number of groups; each has a point.

    Returns:
        (n,) int64 from 0 to ``CLUSTERS`` - 1.
    """
    number = torch.arange(len(points), device=points.device)
    nearest = points.new_full((len(points),), float("inf"))
    cluster = torch.zeros_like(number)
    for place in range(CLUSTERS):
        farthest = nearest.new_full((groups,), -1.0).scatter_reduce_(0, group, nearest, "amax")
        named = torch.where(nearest == farthest[group], number, len(points))
        chosen = torch.full((groups,), len(points), device=points.device).scatter_reduce_(0, group, named, "amin")
        distance = (points - points[chosen][group]).square().sum(1)
        cluster[distance < nearest] = place
        nearest = torch.minimum(nearest, distance)
    return cluster
