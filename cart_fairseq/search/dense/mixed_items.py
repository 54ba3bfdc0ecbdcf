"""The items of a catalogue as queries with parts that are not text see them."""

import torch
from torch import Tensor

from cart_fairseq.catalogue.dense_items import DenseItems


class MixedItems:
    """Items whose vectors have more columns: their embeddings before any join, and their biases.

    The bias is a column of its own, because only the texts of a query take it.

    Args:
        items: the features of the items; they have embeddings from before any join.
        bias: (N,) float32, added to the dense score of a text, by item row; None for no bias.

    Attributes:
        width: E + 1, the number of columns beside those of the models.
    """

    def __init__(self, items: DenseItems, bias: Tensor | None):
        self.items = items
        self.bias = bias
        self.width = items.original_dim + 1

    def columns(self, rows: Tensor) -> Tensor:
        """Embeddings of length 1, and biases: (n,) int64 item rows -> (n, E + 1) float32, on the device of the rows."""
        originals = self.items.originals(rows.cpu().numpy()).to(rows.device)
        bias = torch.zeros(len(rows), device=rows.device) if self.bias is None else self.bias[rows].float()
        return torch.cat([originals, bias.unsqueeze(1)], dim=1)


Items = DenseItems | MixedItems
