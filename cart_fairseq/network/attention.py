"""Multi-head attention to one or several memories (CART 3.4)."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from cart_fairseq.network.dropout import Dropout


class Attention(nn.Module):
    """Multi-head scaled dot-product attention to one or several memories.

    It is written as matrix products because torch's fused kernels train slowly on targets of 4 tokens. Time is the
    first dimension, so that heads are split without copying.

    Args:
        embed_dim: width of the queries and of the result.
        num_heads: number of heads; must divide ``embed_dim``.
        dropout: dropout probability of the attention weights.
        memory_dim: width of the memories (default: ``embed_dim``).

    Raises:
        ValueError: ``embed_dim`` is not a multiple of ``num_heads``.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float, memory_dim: int | None = None):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"width {embed_dim} is not a multiple of the number of attention heads, {num_heads}")
        self.num_heads = num_heads
        self.scale = 1 / math.sqrt(embed_dim // num_heads)
        self.query = nn.Linear(embed_dim, embed_dim)
        # without bias: it would add one constant to all scores of a query, which the softmax cancels
        self.key = nn.Linear(memory_dim or embed_dim, embed_dim, bias=False)
        self.value = nn.Linear(memory_dim or embed_dim, embed_dim)
        self.output = nn.Linear(embed_dim, embed_dim)
        self.dropout = Dropout(dropout)

    def project(self, memories: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of M memories: (M, T, B, memory_dim) -> two tensors (M, T, B, embed_dim)."""
        return self.key(memories), self.value(memories)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None, slots: Tensor | None = None
    ) -> Tensor:
        """Attend to each memory separately.

        Args:
            query: (L, B, embed_dim).
            key, value: (M, T, B, embed_dim), from :meth:`project`.
            hidden: (B or 1, L or 1, T) bool, True for keys that are masked; None masks nothing.
            slots: (R,) int64, for a query of shape (1, R, embed_dim) with a different number of rows per batch column.
                Row r has the flat index ``slots[r]`` in a grid of shape (rows per column, B).

        Returns:
            (M, L, B, embed_dim), the attention output for each memory; (M, 1, R, embed_dim) with slots.
        """
        memories, length, batch, width = key.shape
        rows = batch * self.num_heads
        heads = self.query(query) * self.scale
        if slots is not None:
            grid = heads.new_zeros((int(slots.max()) // batch + 1) * batch, width)
            heads = grid.index_copy_(0, slots, heads[0])
        heads = heads.view(-1, rows, width // self.num_heads).transpose(0, 1)
        keys = key.view(memories * length, rows, -1).permute(1, 2, 0)
        scores = torch.bmm(heads, keys).view(batch, self.num_heads, -1, memories, length)
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, :, None, :], float("-inf"))
        found = [self._mix(each, values, None) for each, values in zip(scores.unbind(3), value.unbind(0), strict=True)]
        contexts = torch.stack(found).reshape(memories, -1, batch, width)
        if slots is not None:
            contexts = contexts.view(memories, 1, -1, width).index_select(2, slots)
        return self.output(contexts)

    def attend_once(self, query: Tensor, memories: Sequence[Tensor], hidden: Tensor | None = None) -> Tensor:
        """Project and attend without keeping keys and values, as in training.

        Since q · (W m) = (Wᵀ q) · m, each head's query can be mapped into the memories' space instead of computing
        keys; this is done if it takes fewer operations. The memories are then not stacked, because CPU allocators reuse
        small blocks.

        Args:
            query: (L, B, embed_dim).
            memories: M tensors (T, B, memory_dim).
            hidden: see :meth:`attend`.

        Returns:
            (M, L, B, embed_dim), the attention output for each memory.
        """
        length, batch, memory_dim = memories[0].shape
        positions, _, width = query.shape
        tokens = len(memories) * length
        by_keys = tokens * (memory_dim + positions) * width
        by_queries = positions * (width + tokens * self.num_heads) * memory_dim
        if by_keys <= by_queries:
            return self.attend(query, *self.project(torch.stack([*memories])), hidden)
        heads = (self.query(query) * self.scale).view(positions * batch, self.num_heads, -1).transpose(0, 1)
        mapped = torch.bmm(heads, self.key.weight.view(self.num_heads, -1, memory_dim))
        mapped = mapped.view(self.num_heads * positions, batch, memory_dim).transpose(0, 1)
        found = []
        for memory in memories:
            scores = torch.bmm(mapped, memory.permute(1, 2, 0)).view(batch, self.num_heads, positions, length)
            found.append(self._mix(scores, self.value(memory), None if hidden is None else hidden[:, None]))
        return self.output(torch.stack(found).view(len(memories), positions, batch, width))

    def _mix(self, scores: Tensor, value: Tensor, hidden: Tensor | None) -> Tensor:
        """Softmax of scores (B, heads, L, T), then the weighted sum of values (T, B, C): (L, B heads, C / heads)."""
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        weights = self.dropout(scores.softmax(-1)).flatten(0, 1)
        return torch.bmm(weights, value.view(len(value), len(weights), -1).transpose(0, 1)).transpose(0, 1)


class SeparateAttention(nn.ModuleList):
    """An :class:`Attention` with weights of its own for each of M memories, used like one attention.

    Args:
        num_memories: M.
        embed_dim, num_heads, dropout, memory_dim: see :class:`Attention`.
    """

    def __init__(self, num_memories: int, embed_dim: int, num_heads: int, dropout: float, memory_dim: int):
        super().__init__(Attention(embed_dim, num_heads, dropout, memory_dim) for _ in range(num_memories))

    def _own(self) -> list[Attention]:
        return cast(list[Attention], [*self])

    def project(self, memories: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the memories, see :meth:`Attention.project`."""
        pairs = [own.project(memory) for own, memory in zip(self._own(), memories, strict=True)]
        return torch.stack([key for key, _ in pairs]), torch.stack([value for _, value in pairs])

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None, slots: Tensor | None = None
    ) -> Tensor:
        """Attend to each memory with its own weights, see :meth:`Attention.attend`."""
        memories = zip(self._own(), key.split(1), value.split(1), strict=True)
        return torch.cat([own.attend(query, keys, values, hidden, slots) for own, keys, values in memories])

    def attend_once(self, query: Tensor, memories: Sequence[Tensor], hidden: Tensor | None = None) -> Tensor:
        """Attend to each memory with its own weights, see :meth:`Attention.attend_once`."""
        pairs = zip(self._own(), memories, strict=True)
        return torch.cat([own.attend_once(query, [memory], hidden) for own, memory in pairs])
