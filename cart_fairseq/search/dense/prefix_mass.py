"""The exact log mass of each prefix, from the scores of all candidates."""

import torch
from torch import Tensor

from cart_fairseq.catalogue.trie import IdentifierTrie


class PrefixMass:
    """The log mass of each prefix: log sum exp of the scores of the items below it.

    It is summed from the leaves upwards, each node relative to its own largest child, so that a prefix of tiny mass
    keeps its full precision.

    Args:
        trie: the catalogue's trie.
        leaves: (n,) int64, the leaves of the items, ascending and distinct; None for all.
        scores: (n, B) float32, the score of each of these items for each query.
    """

    def __init__(self, trie: IdentifierTrie, leaves: Tensor | None, scores: Tensor):
        self.trie_length = trie.length
        self.nodes: dict[int, Tensor | None] = {trie.length: leaves}
        self.mass = {trie.length: scores}
        for depth in range(trie.length - 1, 0, -1):
            first, below = trie.first_child[depth], self.nodes[depth + 1]
            if below is None:
                counts: Tensor = first.diff()
                self.nodes[depth] = None
            else:
                parents = torch.searchsorted(first, below.to(first.dtype), right=True) - 1
                self.nodes[depth], counts = parents.unique_consecutive(return_counts=True)
            self.mass[depth] = segment_logsumexp(self.mass[depth + 1], counts)

    def below(self, depth: int, nodes: Tensor, exists: Tensor) -> Tensor:
        """Log mass below each query's nodes, see :meth:`~cart_fairseq.search.dense.lookahead.LookAhead.below`."""
        known, mass = self.nodes[depth], self.mass[depth]
        query = torch.arange(len(nodes), device=nodes.device).unsqueeze(1)
        if known is not None:
            nodes = torch.searchsorted(known, nodes).clamp_(max=len(known) - 1)
        return mass[nodes, query].masked_fill_(~exists, float("-inf"))

    def best(self, most: int) -> tuple[Tensor, Tensor]:
        """Leaves (B, K) int64 and scores (B, K) of the K <= most best items."""
        leaves = self.nodes[self.trie_length]
        scores, found = self.mass[self.trie_length].topk(min(most, len(self.mass[self.trie_length])), dim=0)
        return (found if leaves is None else leaves[found]).T, scores.T


def segment_logsumexp(values: Tensor, counts: Tensor) -> Tensor:
    """Log sum exp of consecutive rows.

    Args:
        values: (n, B) floats.
        counts: (m,) integers of at least 1, the number of rows of each segment; their sum is n.

    Returns:
        (m, B), of the same dtype.

    >>> segment_logsumexp(torch.tensor([[0.0], [0.0], [5.0]]), torch.tensor([2, 1])).flatten()
    tensor([0.6931, 5.0000])
    """
    if len(counts) == len(values):
        return values
    segment = torch.repeat_interleave(torch.arange(len(counts), device=values.device), counts)
    largest = values.new_full((len(counts), values.size(1)), float("-inf"))
    largest.scatter_reduce_(0, segment.unsqueeze(1).expand_as(values), values, "amax")
    sums = torch.zeros_like(largest).index_add_(0, segment, (values - largest[segment]).exp_())
    return sums.log_().add_(largest)
