"""Soft targets for the decoder from the dense head (knowledge distillation, Hinton et al., 2015).

A caption often fits more items than its own. The dense head compares vectors and can rank all items, including those
without training queries. The target of a symbol is (1 − w) · one-hot + w · p, where p is the dense head's probability
of items whose identifier continues with that symbol, and w is ``--distillation-weight``. The paper has no such term.

An item's caption features are replaced by those of one random caption. With all captions, the head would prefer
training items, whose features include the query itself, to items with fewer captions.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.network.dense_head import DenseHead
from cart_fairseq.training.companions import Companions

BLOCK = 65536
NEAREST = 256
"""Number of best items per query over which the dense head's probability is computed."""
UPDATES = 50
"""Number of updates after which the items' vectors are computed again. Each epoch also begins with new vectors, so that
training resumed after an epoch equals uninterrupted training."""


class SoftTargets:
    """Computes soft targets from a dense head during its training.

    Args:
        items: features of the items.
        companions: draws the one training caption of each item that its features use.
        rows: (N,) int64, item rows of the catalogue.
        identifiers: (N, J) int64, their identifiers in symbols of the target dictionary.
        symbols: V, size of the target dictionary.
    """

    def __init__(
        self,
        items: DenseItems,
        companions: Companions,
        rows: NDArray[np.int64],
        identifiers: Tensor,
        symbols: int,
    ):
        self.items = items
        self.companions = companions
        self.rows = rows
        self.identifiers = identifiers
        self.symbols = symbols
        self.epoch, self.served, self.renewed = -1, 0, 0
        self.vectors: Tensor | None = None

    @torch.no_grad()
    def __call__(self, head: DenseHead, queries: Tensor, target: Tensor, epoch: int) -> Tensor:
        """Compute p for each symbol of the target, given the symbols before it.

        Args:
            head: the dense head.
            queries: (B, F), what the head's query tower reads.
            target: (B, J) int64, the identifiers of the queries' items.
            epoch: number of the epoch.

        Returns:
            (B, J, V) float32 distributions over symbols. If none of the ``NEAREST`` items shares the target's prefix,
            the distribution is one-hot at the target symbol.
        """
        learning = head.training
        head.eval()
        scores = head.text(queries) @ self._vectors(head, epoch, queries.device).T
        head.train(learning)
        best = scores.float().topk(min(NEAREST, len(self.identifiers)), dim=1)
        share = (best.values * head.scale().float()).softmax(1)
        found = self.identifiers.to(target.device)[best.indices]  # (B, K, J)
        same = found == target.unsqueeze(1)
        out = torch.zeros(*target.shape, self.symbols, device=target.device)
        for position in range(target.size(1)):
            out[:, position].scatter_add_(1, found[:, :, position], share)
            share = share * same[:, :, position]
        total = out.sum(2, keepdim=True)
        out.scatter_add_(2, target.unsqueeze(2), (total == 0).float())
        return out / torch.where(total == 0, 1.0, total)

    def _vectors(self, head: DenseHead, epoch: int, device: torch.device) -> Tensor:
        """(N, D) vectors of all items, computed again after ``UPDATES`` calls and in a new epoch."""
        if self.vectors is None or epoch != self.epoch or self.served >= UPDATES:
            self.renewed = self.renewed + 1 if epoch == self.epoch else 0
            draw = np.random.default_rng((epoch, self.renewed))
            parts = []
            for at in range(0, len(self.rows), BLOCK):
                rows = self.rows[at : at + BLOCK]
                features = self.items.training_features(rows, self.companions.of_items(rows, draw))
                parts.append(head.item(features.to(device)))
            self.vectors, self.epoch, self.served = torch.cat(parts), epoch, 0
        self.served += 1
        return self.vectors
