"""Queries in symbols to batches that hold little padding."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

BATCH_SIZE = 256


def pad_right(rows: Sequence[Tensor], pad: int) -> Tensor:
    """1-d int64 tensors -> (B, T) int64, T the longest, padded on the right."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad)


def net_input(queries: Sequence[Tensor], pad: int) -> dict[str, Tensor]:
    """What an encoder reads: ``src_tokens`` (B, T) int64 and ``src_lengths`` (B,) int64."""
    return {"src_tokens": pad_right(queries, pad), "src_lengths": torch.tensor([len(query) for query in queries])}


def batches(
    queries: Sequence[Tensor], pad: int, device: torch.device, size: int = BATCH_SIZE
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Queries of like length together.

    Args:
        queries: 1-d int64 tensors.
        size: queries of a batch, at most.

    Yields:
        The queries' numbers (B,) int64, on the CPU, and the models' input, on the device.
    """
    order = np.argsort([len(query) for query in queries], kind="stable")
    for begin in range(0, len(order), size):
        numbers = torch.from_numpy(order[begin : begin + size])
        batch = net_input([queries[number] for number in numbers.tolist()], pad)
        yield numbers, {key: value.to(device) for key, value in batch.items()}
