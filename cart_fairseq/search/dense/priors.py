"""Priors of items: what a query should beat before an item counts as found.

Some items are near to many queries and are found too often. The prior of an item is the log mean exp of the dense scores
that training captions of other items give it (querybank normalisation; Bogolin et al., CVPR 2022). Its own captions are
left out, so that an item with captions in training is not ranked lower because the model has learned it. The paper has
no priors.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

QUERIES = 4096
"""Number of training captions of a query bank."""
BLOCK = 8192
"""Items whose scores are computed at once."""
SEED = 1

Vectors = Callable[[Tensor], Tensor]


class QueryBank(NamedTuple):
    """Vectors of training captions.

    Attributes:
        vectors: (Q, D) float32; the inner product with an item's vector is the dense score at weight 1.
        rows: (Q,) int64, the item row that each caption describes.
    """

    vectors: Tensor
    rows: Tensor


def bank_captions(roles: NDArray[np.object_], queries: int = QUERIES, seed: int = SEED) -> NDArray[np.int64]:
    """Choose the captions of a query bank from those that are trained on.

    Args:
        roles: (P,) role of each caption. Captions of the role ``train`` are chosen, or any if there are none, because
            index captions describe an item and are no queries.
        queries: the largest number of captions.
        seed: of the choice.

    Returns:
        (n,) int64, ascending.
    """
    usable = np.flatnonzero(roles == "train")
    if not len(usable):
        usable = np.arange(len(roles))
    chosen = np.random.default_rng(seed).choice(usable, min(queries, len(usable)), replace=False)
    return np.sort(chosen).astype(np.int64)


@torch.no_grad()
def item_priors(bank: QueryBank, vectors: Vectors, items: Tensor) -> Tensor:
    """Compute the prior of each item.

    Args:
        bank: the stored queries; their vectors are on the device of ``items``.
        vectors: maps item rows (n,) int64 to vectors (n, D) float32; called for blocks.
        items: (n,) int64 item rows.

    Returns:
        (n,) float32, in natural-log units. An item whose own captions are all of the bank has the mean of the others.
    """
    parts = []
    for rows in items.split(BLOCK):
        scores = vectors(rows) @ bank.vectors.T
        own = rows.unsqueeze(1) == bank.rows
        scores.masked_fill_(own, float("-inf"))
        parts.append(scores.logsumexp(1) - (~own).sum(1).float().log())
    if not parts:
        return torch.empty(0, device=items.device)
    found = torch.cat(parts)
    alone = ~found.isfinite()
    if alone.any():
        found[alone] = found[~alone].mean() if (~alone).any() else 0.0
    return found
