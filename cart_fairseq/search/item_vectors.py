"""Vectors of queries and items whose inner product is the dense score, for one dense head or those of an ensemble."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from cart_fairseq.catalogue.dense_items import DenseItems

BLOCK = 8192

Stamp = tuple[Any, ...]


class QueryVectors(NamedTuple):
    """Vectors of B queries.

    Attributes:
        vectors: (B, D) float32; the inner product with an item's vector (:func:`item_vectors`) is the dense score at
            weight 1, in natural-log units. D is the sum of the heads' widths.
        weight: the weight of the dense score, at least 0: the mean over the models.
    """

    vectors: Tensor
    weight: float


def mean_weight(models: Sequence[Any], weight: float | None = None) -> float:
    """Return ``weight``, or the mean of the models' own weights of the dense score if it is None."""
    if weight is not None:
        return weight
    return sum(float(model.dense.weight) for model in models) / len(models)


def query_vectors(members: Sequence[tuple[Any, dict[str, list[Tensor]]]], weight: float | None = None) -> QueryVectors:
    """Compute the vectors of a batch of queries: cosine x scale, weighted by the models' weights, is the dense score.

    Args:
        members: models with a dense head, each with its encoder's output for the B queries.
        weight: the weight of the dense score; None for each model's own. At least one must be above 0.
    """
    models = [model for model, _ in members]
    mean = mean_weight(models, weight)
    parts = []
    for model, encoder_out in members:
        share = 1.0 if weight is not None else model.dense.weight.float() / mean
        parts.append(model.dense.query(encoder_out).float() * (model.dense.scale().float() * share / len(members)))
    return QueryVectors(torch.cat(parts, dim=1), mean)


def item_vectors(models: Sequence[Any], items: DenseItems, rows: Tensor) -> Tensor:
    """Compute the vectors of items: (n,) int64 item rows -> (n, D) float32, on the device of ``rows``."""
    blocks = []
    for block in rows.split(BLOCK):
        features = items.features(block.cpu().numpy()).to(rows.device)
        blocks.append(torch.cat([model.dense.item(features).float() for model in models], dim=1))
    return torch.cat(blocks)


_kept: "WeakKeyDictionary[Any, WeakKeyDictionary[Any, tuple[Stamp, Tensor]]]" = WeakKeyDictionary()
"""For each model's dense head and each owner of :func:`kept_vectors`, the vectors and what they were computed from."""


def kept_vectors(models: Sequence[Any], items: DenseItems, rows: Tensor, owner: Any) -> Tensor:
    """Like :func:`item_vectors`, but computed once for each owner, until the weights of a head change.

    Args:
        models, items, rows: see :func:`item_vectors`.
        owner: the object that the rows belong to, such as a candidate set; the vectors are freed with it.
    """
    parts = []
    for model in models:
        by_owner = _kept.setdefault(model.dense, WeakKeyDictionary())
        stamp = (*_stamp(model.dense), len(rows), rows.device)
        if owner not in by_owner or by_owner[owner][0] != stamp:
            by_owner[owner] = (stamp, item_vectors([model], items, rows))
        parts.append(by_owner[owner][1])
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _stamp(head: Any) -> Stamp:
    """Return values that change when the item tower's weights do.

    An optimiser may write through ``.data``, which leaves a tensor's version as it is; it does so between two calls of
    ``train``, which :attr:`DenseHead.trained` counts.
    """
    weights = [*head.item_tower.parameters(), head.share_logit]
    return (head.trained, *((id(weight), weight._version, weight.dtype) for weight in weights))
