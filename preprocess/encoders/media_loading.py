"""Worker processes read and prepare media batch by batch while the device computes."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset

from preprocess.encoders.base import Batch, MediaSample, Reader, Tensors, collate


class Loaded(NamedTuple):
    """A batch of files that was read.

    Attributes:
        number: number of the batch.
        batches: its inputs, grouped by shape. Places are rows of the whole list.
        problems: row -> why the file has no inputs.
    """

    number: int
    batches: list[Batch]
    problems: dict[int, str]


class MediaBatches(Dataset[Loaded]):
    """Batches of files. Indexing reads a batch.

    Args:
        reader: the encoder's reader.
        samples: all files.
        batches: (number, rows) of the batches to read.
    """

    def __init__(self, reader: Reader, samples: Sequence[MediaSample], batches: Sequence[tuple[int, range]]):
        self.reader = reader
        self.samples = samples
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Loaded:
        number, rows = self.batches[index]
        prepared: list[tuple[int, str, Tensors]] = []
        problems = {}
        for row in rows:
            modality, path = self.samples[row]
            try:
                prepared.append((row, modality, self.reader(modality, path)))
            except ValueError as error:
                problems[row] = str(error)
        return Loaded(number, collate(prepared), problems)


def load_batches(dataset: MediaBatches, workers: int, pin_memory: bool) -> Iterator[Loaded]:
    """Yield the batches of a dataset in order.

    Args:
        workers: processes that read, each one batch ahead. 0: this process reads.
        pin_memory: whether to pin the batches' memory, for a GPU.
    """
    if not len(dataset):
        return
    ahead = 1 if workers else None
    yield from DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=ahead,
        collate_fn=unchanged,
        pin_memory=pin_memory,
    )


def unchanged(loaded: Any) -> Any:
    """Return a loaded batch unchanged."""
    return loaded


def stamp(samples: Sequence[MediaSample]) -> int:
    """Return a 64-bit number, never 0, that changes with the size or time of a file but not with its name."""
    digest = hashlib.sha256()
    for modality, path in samples:
        try:
            found = os.stat(path)
            state = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(f"{modality} {state}\n".encode())
    return int.from_bytes(digest.digest()[:8], "big") or 1
