"""Writes sequences of symbols as fairseq's indexed data sets, ``PREFIX.bin`` and ``PREFIX.idx``."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from cart_fairseq.catalogue.data_bin import REMEDY
from cart_fairseq.catalogue.errors import reading
from cart_fairseq.tasks import plugin  # noqa: F401 - before fairseq, whose import prints without it

# isort: split
from fairseq.data.indexed_dataset import MMapIndexedDataset, MMapIndexedDatasetBuilder

from cart_fairseq.tasks.held_sequences import check_header


def write_sequences(prefix: Path, sequences: Iterable[Sequence[int] | np.ndarray]) -> None:
    """Write sequences of at least one symbol each as the int32 data set ``prefix``."""
    builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", dtype=np.int32)
    for sequence in sequences:
        builder.add_item(torch.tensor(sequence, dtype=torch.int32))
    builder.finalize(f"{prefix}.idx")


def copy_sequences(source: Path, target: Path, kept: Sequence[int]) -> None:
    """Copy selected sequences of one data set to another.

    Args:
        source, target: prefixes of the data sets.
        kept: indices of sequences in ``source``, in the order of ``target``.

    Raises:
        CatalogueError: the data set ``source`` is damaged.
    """
    index = Path(f"{source}.idx")
    with reading(index, REMEDY):
        check_header(index)
        sequences = MMapIndexedDataset(str(source))
    builder = MMapIndexedDatasetBuilder(f"{target}.bin", dtype=np.int32)
    for number in kept:
        with reading(Path(f"{source}.bin"), REMEDY):
            sequence = sequences[number]
        builder.add_item(sequence)
    builder.finalize(f"{target}.idx")
