"""States of queries that a frozen text encoder has read before: an epoch is the first to pay for it, and the last."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

GIB = 2**30


class StateCache:
    """Keeps each query's states in half precision, as long as there is room; later queries are read again each time.

    What comes out went through half precision whether it was kept or not, so training does not depend on the room there is.

    Args:
        room: GiB of memory to use at most.

    Attributes:
        used: bytes taken.
    """

    def __init__(self, room: float):
        self.room = int(room * GIB)
        self.used = 0
        self._kept: dict[bytes, Tensor] = {}

    def __call__(
        self,
        tokens: Tensor,
        lengths: Sequence[int],
        read: Callable[[Tensor, Sequence[int]], Sequence[Tensor]],
        dtype: torch.dtype,
    ) -> list[Tensor]:
        """States of a batch; only queries not kept are read.

        Args:
            tokens: (B, T) int64, whose row i has ``lengths[i]`` tokens, then padding.
            lengths: B numbers, up to T.
            read: (n, T') tokens and their n lengths -> S states, each (T', n, C).
            dtype: of what is returned.

        Returns:
            S states, each (T, B, C) of the dtype, zero where there is padding.
        """
        keys = [row[:length].numpy().tobytes() for row, length in zip(tokens, lengths, strict=True)]
        new = {key: row for row, key in enumerate(keys) if key not in self._kept}
        found = {key: self._kept[key] for key in keys if key not in new}
        if new:
            rows = list(new.values())
            sizes = [lengths[row] for row in rows]
            states = torch.stack([*read(tokens[rows, : max(sizes)], sizes)]).half().movedim(2, 0)  # (n, S, T', C)
            for key, size, state in zip(new, sizes, states, strict=True):
                found[key] = state[:, :size].contiguous()
                self._keep(key, found[key])
        first = found[keys[0]]
        batch = first.new_zeros(len(first), tokens.size(1), len(keys), first.size(2))
        for row, (key, length) in enumerate(zip(keys, lengths, strict=True)):
            batch[:, :length, row] = found[key]
        return [*batch.to(dtype)]

    def _keep(self, key: bytes, states: Tensor) -> None:
        size = states.numel() * states.element_size() + len(key)
        if self.used + size <= self.room:
            self._kept[key] = states
            self.used += size
