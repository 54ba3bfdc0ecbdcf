"""Training examples that let a decoder read embeddings: <embedding, identifier> pairs, with words and without."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.network.model import MediaBatch

SHARE = 0.25
"""Examples with an embedding, as a share of a batch of captions."""


class Drawn(NamedTuple):
    """Examples of one update.

    Attributes:
        batch: what the model reads.
        target: (M, J) int64, the identifiers that it shall write.
    """

    batch: MediaBatch
    target: Tensor


class MediaExamples:
    """Draws embeddings of items. Half of the examples are items of the batch, with the words of their captions; the others
    are any items of the catalogue, without words.

    Args:
        data: the data-bin; its items have embeddings from before any join.
        start: the decoder's first input symbol.
    """

    def __init__(self, data: DataBin, start: int):
        assert data.dense_items is not None
        self.items = data.dense_items
        self.kept = torch.from_numpy(data.bundle.kept)
        self.identifiers = torch.from_numpy(np.asarray(data.bundle.values) + data.bundle.offsets).long()
        self.start = start

    def draw(self, item_rows: Tensor) -> Drawn:
        """Draw the examples of a batch with torch's generator.

        Args:
            item_rows: (B,) int64, the item row of each caption, on the device of the model.
        """
        device, batch = item_rows.device, len(item_rows)
        count = max(1, round(SHARE * batch / 2))
        query = torch.randperm(batch)[:count]
        others = self.kept[torch.randint(len(self.kept), (count,))]
        rows = torch.cat([item_rows.cpu()[query], others])
        words = torch.arange(len(rows)) < len(query)
        target = self.identifiers[rows]
        previous = torch.cat([torch.full((len(rows), 1), self.start), target[:, :-1]], dim=1)
        query = torch.cat([query, torch.zeros(len(others), dtype=torch.int64)])
        drawn = MediaBatch(self.items.originals(rows.numpy()), query, words, previous)
        return Drawn(MediaBatch(*(each.to(device) for each in drawn)), target.to(device))
