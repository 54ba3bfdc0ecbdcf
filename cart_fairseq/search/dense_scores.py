"""The dense head's scores of what a beam found."""

from typing import Any

import torch
from torch import Tensor

from cart_fairseq.catalogue.dense_items import DenseItems


def dense_scores(
    members: list[tuple[Any, dict[str, list[Tensor]]]], items: DenseItems, rows: Tensor, weight: float | None = None
) -> Tensor:
    """Weighted dense scores of queries and the items found for them: cosine x scale x weight, the mean over an ensemble.

    Args:
        members: models with a dense head, each with what its encoder made of the B queries.
        rows: (B, K) int64 item rows.
        weight: of all members; their own unless given.

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
    return total / len(members)
