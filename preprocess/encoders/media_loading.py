"""Media read and prepared in worker processes, batch by batch, while the device computes."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset

from preprocess.encoders.base import Batch, MediaSample, Reader, Tensors, collate


class Loaded(NamedTuple):
    """A batch of files, read.

    Attributes:
        number: of the batch.
        batches: its inputs, those that fit together in one; places are rows of the whole list.
        problems: row -> why the file has no inputs.
    """

    number: int
    batches: list[Batch]
    problems: dict[int, str]


class MediaBatches(Dataset[Loaded]):
    """Batches of files, read when indexed.

    Args:
        reader: of the encoder.
        samples: all files.
        batches: (number, rows) of those to read.
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
    """The batches of a dataset in order, read by `workers` processes, one batch ahead each, or by this one if 0."""
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
    """Keep a loaded batch as it is."""
    return loaded


def stamp(samples: Sequence[MediaSample]) -> int:
    """A number of 64 bits, never 0, that changes with the size or time of one of the files; names do not count."""
    digest = hashlib.sha256()
    for modality, path in samples:
        try:
            found = os.stat(path)
            state = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(f"{modality} {state}\n".encode())
    return int.from_bytes(digest.digest()[:8], "big") or 1
