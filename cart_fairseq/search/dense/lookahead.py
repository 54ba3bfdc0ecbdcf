"""Look-ahead: guides the beam by what the dense head finds below each prefix.

The score of a prefix p for a query is its identifier score plus weight x log sum exp(d_i) over the candidates i whose
identifiers begin with p, where d_i is the dense score of item i at weight 1 (cosine x scale). A leaf has one item, so
its score is the hybrid score itself, and nothing is reranked. The paper has no look-ahead.

Masses are exact for at most ``EXACT_ITEMS`` candidates. Above, they are estimated from statistics of the whole
catalogue (:mod:`cart_fairseq.search.dense.prefix_statistics`), so that the cost of a search does not grow with it; scores of
leaves are not estimated.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cart_fairseq.catalogue.candidates import BatchCandidates, CandidateSet
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.dense.item_vectors import QueryVectors, kept_vectors
from cart_fairseq.search.dense.mixed_items import Items
from cart_fairseq.search.dense.prefix_mass import PrefixMass
from cart_fairseq.search.dense.prefix_statistics import PrefixStatistics, for_each_query
from cart_fairseq.search.dense.stored_arrays import REMEDY
from cart_fairseq.search.dense.stored_statistics import EXACT_ITEMS, statistics_of
from cart_fairseq.search.dense.stored_vectors import vectors_of


class LookAhead:
    """The weighted log mass of the candidates below each prefix, for a batch of queries.

    Args:
        queries: the vectors of the B queries.
        models: models with a dense head.
        items: the features of the items.
        trie: the catalogue's trie, on the device of the search.
        allowed: the candidates of each query.
        bias: (N,) float32, added to each item's dense score, by item row; None for no bias.
        stored: the folder with stored statistics, used for more than ``exact_items`` candidates; None for none.
        exact_items: the largest number of candidates whose masses are exact.
    """

    def __init__(
        self,
        queries: QueryVectors,
        models: Sequence[Any],
        items: Items,
        trie: IdentifierTrie,
        allowed: BatchCandidates,
        bias: Tensor | None = None,
        stored: Path | None = None,
        exact_items: int = EXACT_ITEMS,
    ):
        self.weight = queries.weight
        self.parts: list[tuple[Tensor, PrefixMass | EstimatedMass]] = []
        for chosen, places in allowed.groups:
            # with one position every step is the last: there is no prefix to estimate, and all items are scored
            if len(trie if chosen is None else chosen) > exact_items and trie.length > 1:
                statistics = statistics_of(models, items, trie, bias, stored)
                asked, of_items = queries.vectors[places], vectors_of(models, items, stored)
                self.parts.append((places, EstimatedMass(trie, chosen, statistics, asked, of_items, bias)))
                continue
            leaves = None if chosen is None else chosen.leaves.to(places.device)
            rows = (trie.rows if leaves is None else trie.rows[leaves]).long()
            asked = queries.vectors[places].T
            if len(trie) > EXACT_ITEMS and leaves is not None:
                scores = kept_vectors(models, items, rows, chosen) @ asked
            else:
                whole = kept_vectors(models, items, trie.rows.long(), trie)
                if leaves is None:
                    scores = whole @ asked
                elif 2 * len(leaves) > len(trie):  # picking scores copies less than picking vectors
                    scores = (whole @ asked)[leaves]
                else:
                    scores = whole[leaves] @ asked
            if bias is not None:
                scores += bias.to(scores)[rows].unsqueeze(1)
            self.parts.append((places, PrefixMass(trie, leaves, scores)))

    def below(self, depth: int, nodes: Tensor, exists: Tensor) -> Tensor:
        """Weighted log mass below each query's nodes of a depth.

        Args:
            depth: of the nodes, at least 1.
            nodes: (B, M) int64.
            exists: (B, M) bool, whether a node leads to a candidate of the query.

        Returns:
            (B, M) float32; without meaning where ``exists`` is False.
        """
        if len(self.parts) == 1:
            return self.parts[0][1].below(depth, nodes, exists) * self.weight
        found = torch.empty(nodes.shape, device=nodes.device)
        for places, mass in self.parts:
            found[places] = mass.below(depth, nodes[places], exists[places])
        return found * self.weight

    def best(self, most: int) -> tuple[Tensor, Tensor]:
        """Rank candidates by the dense score alone.

        Above ``exact_items`` candidates the best are found by a beam search over the trie, guided by the masses.

        Args:
            most: K, the number of candidates to find.

        Returns:
            Leaves (B, K) int64 and weighted dense scores (B, K) float32, best first; -inf marks an unused entry.
        """
        queries = sum(len(places) for places, _ in self.parts)
        device = self.parts[0][0].device
        leaves = torch.zeros(queries, most, dtype=torch.int64, device=device)
        scores = torch.full((queries, most), float("-inf"), device=device)
        for places, mass in self.parts:
            found, values = mass.best(most)
            leaves[places, : found.size(1)], scores[places, : found.size(1)] = found, values
        return leaves, scores * self.weight


class EstimatedMass:
    """The log mass of each prefix, estimated from statistics of the whole catalogue; exact for leaves.

    Restricted candidates are assumed to be spread evenly: their share of the items below a prefix is their share of its
    mass. A prefix without candidates has mass 0, so its logarithm is -inf; likewise a leaf that is none.

    Args:
        trie: the catalogue's trie.
        chosen: the candidates; None for all.
        statistics: of the catalogue.
        queries: (B, D) float32, see :func:`~cart_fairseq.search.dense.item_vectors.query_vectors`.
        vectors_of: maps item rows (n,) to vectors (n, D) float32.
        bias: (N,) float32 by item row; None for no bias.
    """

    def __init__(
        self,
        trie: IdentifierTrie,
        chosen: CandidateSet | None,
        statistics: PrefixStatistics,
        queries: Tensor,
        vectors_of: Callable[[Tensor], Tensor],
        bias: Tensor | None,
    ):
        self.trie = trie
        self.chosen = None if chosen is None else chosen.to(queries.device)
        self.statistics = statistics
        self.queries = queries
        self.projected = queries @ statistics.basis
        self.vectors_of = vectors_of
        self.bias = bias

    def below(self, depth: int, nodes: Tensor, exists: Tensor) -> Tensor:
        """Log mass below each query's nodes, see :meth:`LookAhead.below`."""
        query = exists.nonzero()[:, 0]
        found = torch.full(nodes.shape, float("-inf"), device=nodes.device)
        found[exists] = self._pairs(depth, nodes[exists], query)
        return found

    def best(self, most: int) -> tuple[Tensor, Tensor]:
        """Leaves (B, K) int64 and dense scores (B, K) of the K <= most best candidates, see :meth:`LookAhead.best`."""
        queries = len(self.queries)
        nodes = torch.zeros(queries, 1, dtype=torch.int64, device=self.queries.device)
        mass = torch.zeros_like(nodes, dtype=torch.float32)
        for depth in range(1, self.trie.length + 1):
            child, _, exists = self.trie.children(depth - 1, nodes.flatten())
            child, exists = child.view(queries, -1), exists.view(queries, -1)
            exists &= mass.isfinite().repeat_interleave(child.size(1) // nodes.size(1), 1)
            mass = self.below(depth, child, exists)
            beams = min(most, child.size(1), self.trie.num_nodes(depth))
            mass, chosen = mass.topk(beams, dim=1)
            nodes = child.gather(1, chosen)
        return nodes, mass

    def _pairs(self, depth: int, nodes: Tensor, query: Tensor) -> Tensor:
        """Log mass of nodes (n,) for queries (n,), both int64, queries ascending: (n,) float32."""
        if depth == self.trie.length:
            mass = for_each_query(self._leaves, nodes, query, self.queries)
        else:
            mass = self.statistics.log_mass(self.trie, depth, nodes, query, self.projected)
            if not mass.isfinite().all():  # the beam would follow it, or never come by
                where = self.statistics.folder or "statistics of prefixes"
                raise CatalogueError(f"{where}: the masses of prefixes are NaN or infinite; {REMEDY}")
        if self.chosen is None:
            return mass
        begin, end = self.trie.leaves(depth, nodes)
        return mass + (self.chosen.count(begin, end) / (end - begin)).log()

    def _leaves(self, nodes: Tensor, query: Tensor) -> Tensor:
        """Scores of leaves (n,) int64 for a query (D,) float32: (n,) float32."""
        rows = self.trie.rows[nodes].long()
        scores = self.vectors_of(rows) @ query
        return scores if self.bias is None else scores + self.bias.to(scores)[rows]
