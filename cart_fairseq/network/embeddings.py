"""Embeddings of symbols, bags of symbols and positions; as in fairseq, position numbers start at the padding symbol plus 1."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAD = 1
"""fairseq's padding symbol."""
SPECIALS = 4
"""Number of fairseq's special symbols, which every dictionary begins with; they stand for no part of a text."""


def symbol_embedding(symbols: int, width: int, pad: int) -> nn.Embedding:
    """Make (symbols, width) embeddings, normal with standard deviation width^-0.5; the row of ``pad`` is zero."""
    embedding = nn.Embedding(symbols, width, padding_idx=pad)
    nn.init.normal_(embedding.weight, mean=0, std=width**-0.5)
    nn.init.zeros_(embedding.weight[pad])
    return embedding


def position_numbers(tokens: Tensor, pad: int) -> Tensor:
    """Number the positions of (B, T) int64 symbols: ``pad`` + 1, ``pad`` + 2 …; padding gets ``pad``."""
    there = tokens.ne(pad).long()
    return there.cumsum(1) * there + pad


class SinusoidalPositions(nn.Module):
    """Sinusoidal embeddings of positions in the layout of tensor2tensor and fairseq: all sines, then all cosines.

    The table grows for longer texts. It is not part of the state dict.

    Args:
        positions: initial number of positions in the table.
        width: C.
        pad: the padding symbol, whose embedding is zero.
    """

    table: Tensor

    def __init__(self, positions: int, width: int, pad: int):
        super().__init__()
        self.width = width
        self.pad = pad
        self.register_buffer("table", self._table(positions + pad + 1), persistent=False)

    def _table(self, rows: int) -> Tensor:
        table = torch.zeros(rows, self.width)
        if table.is_meta:  # see `restore`
            return table
        half = self.width // 2
        frequencies = torch.exp(torch.arange(half, dtype=torch.float) * -(math.log(10000) / (half - 1)))
        angles = torch.arange(rows, dtype=torch.float).unsqueeze(1) * frequencies
        table[:, : 2 * half] = torch.cat([angles.sin(), angles.cos()], dim=1)
        table[self.pad] = 0
        return table

    def restore(self) -> None:
        """Compute the table anew, for a network that was built without memory (torch's device ``meta``)."""
        self.table = self._table(len(self.table))

    def _upto(self, rows: int) -> Tensor:
        if rows > len(self.table):
            self.table = self._table(rows).to(self.table)
        return self.table

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed the positions of (B, T) int64 symbols: (B, T, C)."""
        return self._upto(self.pad + 1 + tokens.size(1))[position_numbers(tokens, self.pad)].detach()

    def last(self, tokens: Tensor) -> Tensor:
        """Embed the last position of texts without padding: (B, T) int64 symbols -> (1, 1, C)."""
        return self._upto(self.pad + 1 + tokens.size(1))[self.pad + tokens.size(1)].view(1, 1, -1)


class LearnedPositions(nn.Embedding):
    """Learned embeddings of a fixed number of positions.

    Args:
        positions: length of the longest text.
        width: C.
        pad: the padding symbol, whose embedding is zero.
    """

    def __init__(self, positions: int, width: int, pad: int):
        super().__init__(positions + pad + 1, width, padding_idx=pad)
        self.pad = pad
        nn.init.normal_(self.weight, mean=0, std=width**-0.5)
        nn.init.zeros_(self.weight[pad])

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed the positions of (B, T) int64 symbols: (B, T, C)."""
        return super().forward(position_numbers(tokens, self.pad))

    def last(self, tokens: Tensor) -> Tensor:
        """Embed the last position of texts without padding: (B, T) int64 symbols -> (1, 1, C)."""
        return self.weight[self.pad + tokens.size(1)].view(1, 1, -1)


def position_embedding(learned: bool, positions: int, width: int, pad: int) -> SinusoidalPositions | LearnedPositions:
    """Make learned or sinusoidal embeddings of positions."""
    return (LearnedPositions if learned else SinusoidalPositions)(positions, width, pad)


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
