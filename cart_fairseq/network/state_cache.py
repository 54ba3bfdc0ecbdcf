"""Caches a frozen encoder's states, so that only the first epoch computes them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

GIB = 2**30


class StateCache:
    """Keeps queries' states in half precision until the memory is used up; other states are computed each time.

    All returned states are rounded to half precision, cached or not, so the cache's size does not change training.

    Args:
        room: the largest amount of memory to use, in GiB.

    Attributes:
        used: memory used so far, in bytes.
    """

    def __init__(self, room: float):
        self.room = int(room * GIB)
        self.used = 0
        self._kept: dict[bytes, Tensor] = {}

    def __call__(
        self,
        tokens: Tensor,
        lengths: Tensor,
        read: Callable[[Tensor, Tensor], Sequence[Tensor]],
        dtype: torch.dtype,
    ) -> list[Tensor]:
        """Return the states of a batch; only those of queries that are not cached are computed.

        Args:
            tokens: (B, T) int64; row i has ``lengths[i]`` tokens, then padding.
            lengths: (B,) int64, each at most T.
            read: computes states: (n, T') tokens and their (n,) lengths -> S states, each (T', n, C).
            dtype: the dtype of the result.

        Returns:
            S states, each (T, B, C) of ``dtype``, zero at padding.
        """
        sizes = lengths.tolist()
        keys = [row[:size].numpy().tobytes() for row, size in zip(tokens, sizes, strict=True)]
        new = {key: row for row, key in enumerate(keys) if key not in self._kept}
        found = {key: self._kept[key] for key in keys if key not in new}
        if new:
            rows = list(new.values())
            unread = lengths[rows]
            states = (
                torch.stack([*read(tokens[rows, : int(unread.max())], unread)]).half().movedim(2, 0)
            )  # (n, S, T', C)
            for (key, row), state in zip(new.items(), states, strict=True):
                found[key] = state[:, : sizes[row]].contiguous()
                self._keep(key, found[key])
        first = found[keys[0]]
        batch = first.new_zeros(len(first), tokens.size(1), len(keys), first.size(2))
        for row, (key, size) in enumerate(zip(keys, sizes, strict=True)):
            batch[:, :size, row] = found[key]
        return [*batch.to(dtype)]

    def _keep(self, key: bytes, states: Tensor) -> None:
        size = states.numel() * states.element_size() + len(key)
        if self.used + size <= self.room:
            self._kept[key] = states
            self.used += size
