"""The dense head's scores of the items that a beam search found."""

from typing import Any

import torch
from torch import Tensor

from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.search.item_vectors import item_vectors, query_vectors


def dense_scores(
    members: list[tuple[Any, dict[str, list[Tensor]]]],
    items: DenseItems,
    rows: Tensor,
    weight: float | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Compute (cosine x scale + bias) x weight for each query and each item found for it, averaged over an ensemble.

    Args:
        members: models with a dense head, each with its encoder's output for the B queries.
        items: the features of the items.
        rows: (B, K) int64 item rows.
        weight: the weight of the dense score; None for each model's own.
        bias: (N,) float32 by item row; None for no bias.

    Returns:
        (B, K) float32.
    """
    queries = query_vectors(members, weight)
    unique, place = rows.unique(return_inverse=True)
    vectors = item_vectors([model for model, _ in members], items, unique)
    total = torch.einsum("bkd,bd->bk", vectors[place], queries.vectors)
    if bias is not None:
        total += bias.to(total)[rows]
    return total * queries.weight
