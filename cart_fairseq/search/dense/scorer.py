"""Scores items for a batch of queries by the dense heads."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cart_fairseq.catalogue.candidates import BatchCandidates
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.dense.item_vectors import QueryVectors, item_vectors
from cart_fairseq.search.dense.lookahead import LookAhead
from cart_fairseq.search.dense.mixed_items import Items


class DenseScorer(NamedTuple):
    """The vectors of B queries, and the items that they are compared with.

    Attributes:
        queries: the vectors of the queries, with the weight of the dense score.
        models: models with a dense head.
        items: the features of the items.
        bias: (N,) float32, added to each item's dense score at weight 1, by item row; None for no bias.
        stored: the folder with stored vectors and statistics; None for none.
        exact_items: the largest number of candidates for which every dense score is computed.
    """

    queries: QueryVectors
    models: list[Any]
    items: Items
    bias: Tensor | None
    stored: Path | None
    exact_items: int

    def look_ahead(self, trie: IdentifierTrie, allowed: BatchCandidates) -> LookAhead:
        """Return the masses of the candidates below each prefix."""
        options = (self.bias, self.stored, self.exact_items)
        return LookAhead(self.queries, self.models, self.items, trie, allowed, *options)

    def scores(self, rows: Tensor) -> Tensor:
        """Compute (cosine x scale + bias) x weight, averaged over an ensemble: item rows (B, K) int64 -> (B, K) float32."""
        unique, place = rows.unique(return_inverse=True)
        vectors = item_vectors(self.models, self.items, unique)
        total = torch.einsum("bkd,bd->bk", vectors[place], self.queries.vectors)
        if self.bias is not None:
            total += self.bias.to(total)[rows]
        return total * self.queries.weight
