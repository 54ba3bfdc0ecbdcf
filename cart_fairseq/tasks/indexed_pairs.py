"""Sequences of symbols in fairseq's indexed data sets, the files that its tasks read: ``PREFIX.bin`` and ``PREFIX.idx``."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from fairseq.data.indexed_dataset import MMapIndexedDataset, MMapIndexedDatasetBuilder


def write_sequences(prefix: Path, sequences: Iterable[Sequence[int] | np.ndarray]) -> None:
    """Write sequences, each of at least one symbol, as int32."""
    builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", dtype=np.int32)
    for sequence in sequences:
        builder.add_item(torch.tensor(sequence, dtype=torch.int32))
    builder.finalize(f"{prefix}.idx")


def copy_sequences(source: Path, target: Path, kept: Sequence[int]) -> None:
    """Write some of the sequences of one data set as another, in the order given.

    Args:
        source, target: prefixes.
        kept: numbers of sequences in ``source``.
    """
    sequences = MMapIndexedDataset(str(source))
    builder = MMapIndexedDatasetBuilder(f"{target}.bin", dtype=np.int32)
    for number in kept:
        builder.add_item(sequences[number])
    builder.finalize(f"{target}.idx")
