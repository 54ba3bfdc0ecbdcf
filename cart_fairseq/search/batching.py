"""Batches queries of similar length, so that batches have little padding."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

BATCH_SIZE = 256


def pad_right(rows: Sequence[Tensor], pad: int) -> Tensor:
    """Stack 1-d int64 tensors into (B, T) int64, padded on the right to the longest length T."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad)


def net_input(queries: Sequence[Tensor], pad: int) -> dict[str, Tensor]:
    """Make the encoder's input: ``src_tokens`` (B, T) int64 and ``src_lengths`` (B,) int64."""
    return {"src_tokens": pad_right(queries, pad), "src_lengths": torch.tensor([len(query) for query in queries])}


def batches(
    queries: Sequence[Tensor], pad: int, device: torch.device, size: int = BATCH_SIZE
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Batch queries in the order of their lengths.

    Args:
        queries: 1-d int64 tensors.
        pad: the padding symbol.
        device: the device of the encoder's input.
        size: the largest number of queries in a batch.

    Yields:
        (B,) int64 indices into ``queries``, on the CPU, and the encoder's input on the device; see :func:`net_input`.
    """
    order = np.argsort([len(query) for query in queries], kind="stable")
    for begin in range(0, len(order), size):
        numbers = torch.from_numpy(order[begin : begin + size])
        batch = net_input([queries[number] for number in numbers.tolist()], pad)
        yield numbers, {key: value.to(device) for key, value in batch.items()}
