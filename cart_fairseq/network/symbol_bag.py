"""A query as the sum of a vector for each of its symbols, without their order."""

import torch.nn.functional as F
from torch import Tensor, nn

from cart_fairseq.network.pretrained_encoder import PAD

SPECIALS = 4
"""Number of fairseq's special symbols, which every dictionary begins with; they stand for no part of a text."""


class SymbolBag(nn.Module):
    """Sums the vectors of a query's symbols.

    Where the data-bin has features of the training captions, training begins with vectors whose sum predicts them
    (:func:`cart_fairseq.training.symbol_vectors.fit_symbol_vectors`). The paper has no such part.

    Args:
        symbols: V, size of the query dictionary.
        dim: D, width of the vectors.
    """

    def __init__(self, symbols: int, dim: int):
        super().__init__()
        self.vectors = nn.Embedding(symbols, dim, padding_idx=PAD)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 symbols -> (B, D), rows of length 1; zeros for a query without any symbol of a text."""
        words = tokens.masked_fill(tokens < SPECIALS, PAD)
        return F.normalize(F.embedding_bag(words, self.vectors.weight, mode="sum", padding_idx=PAD), dim=1)
