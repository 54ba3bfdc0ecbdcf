"""Rows that are computed batch by batch, kept in a working folder, from which a run that was killed goes on."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from preprocess.data.kept import BlockStore, Shape


class RowStore:
    """(N, D) float32 rows in files; a batch counts as done only when its rows are on disk and undamaged.

    Args:
        work: receives `rows/`.
        rows: N.
        dimension: D.
        stamps: (batches,) uint64: what each batch is made from. A batch whose stamp has changed is done again.
        batch_size: rows a batch, the last one excepted.

    Attributes:
        values: (N, D), memory-mapped.
        problems: row -> why it has no values.
    """

    def __init__(self, work: Path, rows: int, dimension: int, stamps: NDArray[np.uint64], batch_size: int):
        self.stamps = stamps
        self.batch_size = batch_size
        self._rows = rows
        self._problems_path = work / "problems.json"
        self.problems = _read_problems(self._problems_path)
        shapes = {"values": Shape(np.float32, (rows, dimension))}
        self._store = BlockStore(work / "rows", shapes, len(stamps), self._content)
        self.values = self._store.arrays["values"]
        self._whole = self._store.whole()
        undone = {row for number in self.pending() for row in self.rows_of(number)}
        self.problems = {row: why for row, why in self.problems.items() if row < rows and row not in undone}

    def _content(self, store: BlockStore, number: int) -> Iterator[NDArray[Any] | bytes]:
        rows = self.rows_of(number)
        yield self.stamps[number : number + 1]
        yield store.arrays["values"][rows.start : rows.stop]
        yield json.dumps([self.problems.get(row) for row in rows]).encode()

    def rows_of(self, number: int) -> range:
        """The rows of a batch."""
        return range(number * self.batch_size, min((number + 1) * self.batch_size, self._rows))

    def pending(self) -> list[int]:
        """Numbers of the batches that are to be done."""
        return np.flatnonzero(~self._whole).tolist()

    def keep(self, number: int, rows: Sequence[int], values: NDArray[np.float32], problems: dict[int, str]) -> None:
        """Store a batch: (n, D) values of its rows, and the problems of rows that have no values."""
        if len(rows):
            self.values[np.asarray(rows)] = values
        others = {row: why for row, why in self.problems.items() if row not in self.rows_of(number)}
        if others | problems != self.problems:
            self.problems = others | problems
            write_json(self._problems_path, self.problems)
        self._store.keep([number])
        self._whole[number] = True


def _read_problems(path: Path) -> dict[int, str]:
    """Problems of an earlier run; none where the file is missing or damaged: their batches are done again then."""
    try:
        return {int(row): str(why) for row, why in read_json(path).items()}
    except (ValueError, OSError, AttributeError):
        return {}
