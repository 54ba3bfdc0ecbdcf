"""Rows that are computed batch by batch, kept in a working folder, from which a run that was killed goes on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.files import replacing, write_json
from cart_fairseq.reading import read_json


class RowStore:
    """(N, D) float32 rows in files; a batch counts as done only when its rows are on disk.

    Args:
        work: receives `rows/`.
        rows: N.
        dimension: D.
        stamps: (batches,) uint64, never 0: what each batch is made from. A batch whose stamp has changed is done again.
        batch_size: rows a batch, the last one excepted.

    Attributes:
        problems: row -> why it has no values.
    """

    def __init__(self, work: Path, rows: int, dimension: int, stamps: NDArray[np.uint64], batch_size: int):
        folder = work / "rows"
        if not folder.exists():
            with replacing(folder, directory=True) as new:
                create = np.lib.format.open_memmap
                create(new / "values.npy", mode="w+", dtype=np.float32, shape=(rows, dimension))
                create(new / "done.npy", mode="w+", dtype=np.uint64, shape=stamps.shape)
                write_json(new / "problems.json", {})
        self.values = np.lib.format.open_memmap(folder / "values.npy", mode="r+")
        self._done = np.lib.format.open_memmap(folder / "done.npy", mode="r+")
        self._problems_path = folder / "problems.json"
        self.problems: dict[int, str] = {int(row): why for row, why in read_json(self._problems_path).items()}
        self.stamps = stamps
        self.batch_size = batch_size

    def rows_of(self, number: int) -> range:
        """The rows of a batch."""
        return range(number * self.batch_size, min((number + 1) * self.batch_size, len(self.values)))

    def pending(self) -> list[int]:
        """Numbers of the batches that are to be done."""
        return np.flatnonzero(self._done != self.stamps).tolist()

    def keep(self, number: int, rows: Sequence[int], values: NDArray[np.float32], problems: dict[int, str]) -> None:
        """Store a batch: (n, D) values of its rows, and the problems of rows that have no values."""
        if len(rows):
            self.values[np.asarray(rows)] = values
            self.values.flush()
        others = {row: why for row, why in self.problems.items() if row not in self.rows_of(number)}
        if others | problems != self.problems:
            self.problems = others | problems
            write_json(self._problems_path, self.problems)
        self._done[number] = self.stamps[number]
        self._done.flush()
