"""Embeddings of symbols and of positions; positions count from the padding symbol on, as in fairseq."""

import math

import torch
from torch import Tensor, nn


def symbol_embedding(symbols: int, width: int, pad: int) -> nn.Embedding:
    """(symbols, width) embeddings, normal with standard deviation width^-0.5; the row of ``pad`` is zero."""
    embedding = nn.Embedding(symbols, width, padding_idx=pad)
    nn.init.normal_(embedding.weight, mean=0, std=width**-0.5)
    nn.init.zeros_(embedding.weight[pad])
    return embedding


def position_numbers(tokens: Tensor, pad: int) -> Tensor:
    """(B, T) int64 symbols -> (B, T) int64: ``pad`` + 1, ``pad`` + 2 … for symbols, ``pad`` where there is padding."""
    there = tokens.ne(pad).long()
    return there.cumsum(1) * there + pad


class SinusoidalPositions(nn.Module):
    """Sines and cosines of positions, as tensor2tensor and fairseq arrange them: all sines first.

    The table grows where a text is longer, and is no part of the state dict.

    Args:
        positions: rows of the table at first.
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
        half = self.width // 2
        frequencies = torch.exp(torch.arange(half, dtype=torch.float) * -(math.log(10000) / (half - 1)))
        angles = torch.arange(rows, dtype=torch.float).unsqueeze(1) * frequencies
        table = torch.zeros(rows, self.width)
        table[:, : 2 * half] = torch.cat([angles.sin(), angles.cos()], dim=1)
        table[self.pad] = 0
        return table

    def _upto(self, rows: int) -> Tensor:
        if rows > len(self.table):
            self.table = self._table(rows).to(self.table)
        return self.table

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 symbols -> (B, T, C)."""
        return self._upto(self.pad + 1 + tokens.size(1))[position_numbers(tokens, self.pad)].detach()

    def last(self, tokens: Tensor) -> Tensor:
        """The last position alone, of texts without padding: (B, T) -> (1, 1, C)."""
        return self._upto(self.pad + 1 + tokens.size(1))[self.pad + tokens.size(1)].view(1, 1, -1)


class LearnedPositions(nn.Embedding):
    """Learned embeddings of a fixed number of positions.

    Args:
        positions: the most that a text can have.
        width: C.
        pad: the padding symbol, whose embedding is zero.
    """

    def __init__(self, positions: int, width: int, pad: int):
        super().__init__(positions + pad + 1, width, padding_idx=pad)
        self.pad = pad
        nn.init.normal_(self.weight, mean=0, std=width**-0.5)
        nn.init.zeros_(self.weight[pad])

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 symbols -> (B, T, C)."""
        return super().forward(position_numbers(tokens, self.pad))

    def last(self, tokens: Tensor) -> Tensor:
        """The last position alone, of texts without padding: (B, T) -> (1, 1, C)."""
        return self.weight[self.pad + tokens.size(1)].view(1, 1, -1)


def position_embedding(learned: bool, positions: int, width: int, pad: int) -> SinusoidalPositions | LearnedPositions:
    """Learned or sinusoidal embeddings of positions."""
    return (LearnedPositions if learned else SinusoidalPositions)(positions, width, pad)
