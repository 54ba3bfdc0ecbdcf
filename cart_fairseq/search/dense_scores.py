"""The dense head's scores of the items that a beam search found."""

from typing import Any

import torch
from torch import Tensor

from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.search.item_vectors import mean_weight


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
    unique, place = rows.unique(return_inverse=True)
    features = items.features(unique.cpu().numpy()).to(rows.device)
    total = torch.zeros(rows.shape, device=rows.device)
    for model, encoder_out in members:
        vectors = model.dense.item(features)
        queries = model.dense.query(encoder_out)
        factor = model.dense.scale() * (model.dense.weight if weight is None else weight)
        total += torch.einsum("bkd,bd->bk", vectors[place], queries).float() * factor.float()
    total = total / len(members)
    if bias is not None:
        total += bias.to(total)[rows] * mean_weight([model for model, _ in members], weight)
    return total
