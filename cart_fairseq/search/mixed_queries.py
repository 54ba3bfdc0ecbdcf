"""Queries with parts that are not text: items of the catalogue, embeddings and media files, in weighted sums.

The dense score of an item for such a query is the weighted mean over its parts. For a text it is the text's dense score,
with the item's bias. For an embedding it is the cosine with the item's own embedding, before any join with captions,
times a factor that makes both kinds of score vary alike over the items. The paper has text queries only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.item_vectors import QueryVectors, item_vectors, kept, mean_weight, query_vectors

SAMPLE = 1000
"""Number of items of which the factor of cosines is computed."""


class MixedQueries(NamedTuple):
    """B queries; the weights of a query's parts are divided by the sum of their magnitudes.

    Attributes:
        texts: the encoder's input for all M texts of these queries; None if there are none.
        owners: (M,) int64, the query of each text.
        weights: (M,) float32, the weight of each text.
        embeddings: (B, E) float32, the weighted sums of the other parts' embeddings, each of length 1.
        read: (B, E) float32, what the decoder reads: the sums of the embeddings with a weight above 0, of length 1; zeros
            for a query without them.
        words: (B,) bool, whether the decoder reads words: those of the texts with a weight above 0.
    """

    texts: dict[str, Tensor] | None
    owners: Tensor
    weights: Tensor
    embeddings: Tensor
    read: Tensor
    words: Tensor


def mixed_vectors(
    models: Sequence[Any], queries: MixedQueries, items: DenseItems, trie: IdentifierTrie, weight: float | None = None
) -> QueryVectors:
    """Compute the vectors of queries, whose inner products with those of ``MixedItems`` are dense scores.

    Args:
        models: models with a dense head.
        queries: the queries.
        items: the features of the items.
        trie: the catalogue's trie.
        weight: the weight of the dense score; None for each model's own.
    """
    texts = torch.zeros(len(queries.embeddings), sum(model.dense.width for model in models))
    texts, share = texts.to(queries.embeddings), torch.zeros_like(queries.embeddings[:, :1])
    if queries.texts is not None:
        found = query_vectors([(model, model.encoder(**queries.texts)) for model in models], weight).vectors
        weights = queries.weights.unsqueeze(1)
        texts.index_add_(0, queries.owners, found * weights)
        share.index_add_(0, queries.owners, weights)
    factor = kept(models, trie, "factor of cosines", None, lambda: cosine_factor(models, items, trie))
    vectors = torch.cat([texts, queries.embeddings * factor, share], dim=1)
    return QueryVectors(vectors, mean_weight(models, weight))


@torch.no_grad()
def cosine_factor(models: Sequence[Any], items: DenseItems, trie: IdentifierTrie) -> float:
    """Return the factor by which cosines of embeddings vary over the items as dense scores do.

    It is computed from pairs among at most ``SAMPLE`` items that are spread evenly over the catalogue.
    """
    rows = trie.rows[:: max(1, len(trie) // SAMPLE)].long()
    if len(rows) < 2:
        return float(models[0].dense.scale())
    embeddings = items.originals(rows.cpu().numpy())
    parts = item_vectors(models, items, rows).split([model.dense.width for model in models], dim=1)
    each = [part @ part.T * model.dense.scale().float() for model, part in zip(models, parts, strict=True)]
    dense, cosines = torch.stack(each).mean(0), embeddings @ embeddings.T
    others = ~torch.eye(len(rows), dtype=torch.bool)
    spread, of_cosines = (scores.cpu()[others].std(correction=0) for scores in (dense, cosines))
    return float(spread / of_cosines.clamp(min=1e-6))
