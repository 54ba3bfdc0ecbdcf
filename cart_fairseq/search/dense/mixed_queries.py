"""Queries with parts that are not text: items of the catalogue, embeddings and media files, in weighted sums.

The dense score of an item for such a query is the weighted mean over its parts. For a text it is the text's dense score,
with the item's bias. For an embedding it is the cosine with the item's own embedding, before any join with captions. The
cosines of each embedding are scaled so that they vary over the catalogue :data:`LOUDNESS` times as much as dense scores do,
because a noisy embedding has cosines that vary little, and yet tells items apart. The paper has text queries only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.dense.item_vectors import QueryVectors, item_vectors, kept, mean_weight, query_vectors

SAMPLE = 1000
"""Number of items, spread evenly over the catalogue, on which scores are compared."""
LOUDNESS = 2.0
"""Standard deviation of an embedding's scores, relative to that of dense scores."""
LEAST_SPREAD = 1e-6


class MixedQueries(NamedTuple):
    """B queries; the weights of a query's parts are divided by the sum of their magnitudes.

    Attributes:
        texts: the encoder's input for M texts of these queries, of those that are not the words that the decoder reads;
            None if there are none.
        text_owners: (M,) int64, the query of each text.
        text_weights: (M,) float32, the weight of each text.
        embeddings: (P, E) float32, the embeddings of all other parts, of length 1.
        owners: (P,) int64, the query of each of these parts.
        weights: (P,) float32, their weights.
        read: (B, E) float32, what the decoder reads: the sums of the embeddings with a weight above 0, of length 1; zeros
            for a query without them.
        words: (B,) bool, whether the decoder reads words: those of the texts with a weight above 0.
        word_weights: (B,) float32, the weight of the words as a text of the query; 0 if several texts make them.
    """

    texts: dict[str, Tensor] | None
    text_owners: Tensor
    text_weights: Tensor
    embeddings: Tensor
    owners: Tensor
    weights: Tensor
    read: Tensor
    words: Tensor
    word_weights: Tensor


class Spreads(NamedTuple):
    """How scores vary over a catalogue.

    Attributes:
        embeddings: (n, E) float32, embeddings of some items, of length 1.
        dense: the standard deviation of dense scores, between these items.
    """

    embeddings: Tensor
    dense: float


def mixed_vectors(
    models: Sequence[Any],
    queries: MixedQueries,
    words: Sequence[dict[str, list[Tensor]]],
    items: DenseItems,
    trie: IdentifierTrie,
    weight: float | None = None,
) -> QueryVectors:
    """Compute the vectors of queries, whose inner products with those of ``MixedItems`` are dense scores.

    Args:
        models: models with a dense head.
        queries: the queries.
        words: the output of each model's encoder for the words of the queries; empty if no query has words.
        items: the features of the items.
        trie: the catalogue's trie.
        weight: the weight of the dense score; None for each model's own.
    """
    read = queries.read
    texts = torch.zeros(len(read), sum(model.dense.width for model in models)).to(read)
    share, embeddings = queries.word_weights.unsqueeze(1).clone(), torch.zeros_like(read)
    if words and share.any():
        texts = query_vectors([*zip(models, words, strict=True)], weight).vectors * share
    if queries.texts is not None:
        found = query_vectors([(model, model.encoder(**queries.texts)) for model in models], weight).vectors
        weights = queries.text_weights.unsqueeze(1)
        texts.index_add_(0, queries.text_owners, found * weights)
        share.index_add_(0, queries.text_owners, weights)
    if len(queries.embeddings):
        spreads = kept(models, trie, "spreads", None, lambda: spreads_of(models, items, trie))
        factors = queries.weights * embedding_factors(queries.embeddings, spreads)
        embeddings.index_add_(0, queries.owners, queries.embeddings * factors.unsqueeze(1))
    return QueryVectors(torch.cat([texts, embeddings, share], dim=1), mean_weight(models, weight))


def embedding_factors(embeddings: Tensor, spreads: Spreads) -> Tensor:
    """The factor of the cosines of each embedding (P, E) of length 1: (P,) float32."""
    own = (embeddings @ spreads.embeddings.T).std(dim=1, correction=0)
    return LOUDNESS * spreads.dense / own.clamp(min=LEAST_SPREAD)


@torch.no_grad()
def spreads_of(models: Sequence[Any], items: DenseItems, trie: IdentifierTrie) -> Spreads:
    """Measure how dense scores vary between items of a catalogue."""
    rows = trie.rows[:: max(1, len(trie) // SAMPLE)].long()
    embeddings = items.originals(rows.cpu().numpy()).to(rows.device)
    parts = item_vectors(models, items, rows).split([model.dense.width for model in models], dim=1)
    each = [part @ part.T * model.dense.scale().float() for model, part in zip(models, parts, strict=True)]
    others = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    dense = torch.stack(each).mean(0)[others]
    return Spreads(embeddings, float(dense.std(correction=0)) if len(dense) else 1.0)
