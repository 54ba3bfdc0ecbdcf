"""Sub-clusters of prefixes: weighted k-means inside every prefix of a depth, all prefixes at once."""

from typing import NamedTuple

import torch
from torch import Tensor

CLUSTERS = 8
ROUNDS = 6
BLOCK = 8192
"""Number of points that are clustered at once, or more if one prefix has more."""


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

    def table(self, queries: Tensor) -> Tensor:
        """Log mass of all these prefixes for all queries: (B, P) float32 -> (B, m) float32."""
        scores = queries @ self.means.flatten(0, 1).float().T + self.weights.flatten()
        scores += queries.square().sum(1, keepdim=True) / 2 * self.spreads.flatten()
        return scores.view(len(queries), -1, CLUSTERS).logsumexp(2)

    def of_query(self, places: Tensor, query: Tensor) -> Tensor:
        """Log mass of some of these prefixes for one query: (n,) int64 places, (P,) float32 -> (n,) float32."""
        means = self.means.index_select(0, places).float()  # indexing halves with [] takes eight times as long
        scores = (means.flatten(0, 1) @ query).view(-1, CLUSTERS) + self.weights.index_select(0, places)
        scores += query.square().sum() / 2 * self.spreads.index_select(0, places)
        return scores.logsumexp(1)


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


def cluster_depth(points: Points, owners: Tensor, many: Tensor) -> tuple[Clusters, Points, Tensor]:
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
    if not parts:
        none = points.weights.new_empty(0, CLUSTERS)
        parts = [(none.new_empty(0, CLUSTERS, width), none, none)]
    means, weights, spreads = (torch.cat(column) for column in zip(*parts, strict=True))
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
