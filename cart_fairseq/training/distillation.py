"""What the dense head knows of an identifier's symbols: soft targets for the decoder.

A caption fits more items than the one it was written for, and the dense head, which compares vectors, knows better than the
decoder which: for items, too, that no training query asks for. So its probability of all items, summed over those whose
identifiers go on with a symbol, is what the decoder shall give that symbol (Hinton et al., 2015). The paper has none.

Items are compared as if one caption of each were known. With all of them the head would find those that it is trained with,
by the query itself among others, before those that are to be found later and have fewer.
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
"""Items, the best for each query, that share its probability."""
UPDATES = 50
"""Updates that the items' vectors serve before they are made anew. An epoch begins with new ones, so that training that was
stopped after one goes on as if it had not been."""


class SoftTargets:
    """Soft targets from a dense head that is still learning.

    Args:
        items: features of the items.
        companions: the training captions of the items; one of each, drawn anew with the vectors, is what the head sees.
        rows: (N,) int64, those that are in the catalogue.
        identifiers: (N, J) int64, their symbols in the target dictionary.
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
    def __call__(self, head: DenseHead, states: Tensor, target: Tensor, epoch: int) -> Tensor:
        """What each symbol of an identifier should get, given those before it.

        Args:
            states: (B, query_dim), the mean encoder state of each query.
            target: (B, J) int64, the identifiers that are to be written.
            epoch: number of the epoch.

        Returns:
            (B, J, V) float32, distributions: of the right symbol alone where no item near the query begins as its target.
        """
        learning = head.training
        head.eval()
        scores = head.text(states) @ self._vectors(head, epoch, states.device).T
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
        """(N, D) vectors of all items, not too old."""
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
