"""Opens fairseq's indexed data sets, ``PREFIX.bin`` and ``PREFIX.idx``, from the held files of a data-bin."""

from pathlib import Path

import numpy as np
from fairseq.data.indexed_dataset import MMapIndexedDataset

from cart_fairseq.catalogue.held_files import HeldFiles

MAGIC = b"MMIDIDX\x00\x00"
"""The first bytes of an index, which fairseq checks too late: the object is half made then."""


class HeldSequences(MMapIndexedDataset):
    """An indexed data set of held files. A copy in another process, made by pickle, opens the files by their names.

    Args:
        files: the held files.
        prefix: the data set's name.
    """

    def __init__(self, files: HeldFiles, prefix: str):
        self._files = files
        super().__init__(str(files.folder / prefix))

    def _do_init(self, path: str) -> None:
        files: HeldFiles | None = getattr(self, "_files", None)
        if files is None:
            super()._do_init(path)
            return
        self._path = path
        prefix = Path(path).name
        with files.reading(f"{prefix}.idx") as opened:
            check_magic(opened)
            self._index = self.Index(str(opened))
            self._check(files.size(f"{prefix}.bin"))
        with files.reading(f"{prefix}.bin") as opened:
            self._bin_buffer_mmap = np.memmap(opened, mode="r", order="C")
        self._bin_buffer = memoryview(self._bin_buffer_mmap)  # type: ignore[arg-type]

    def _check(self, size: int) -> None:
        """Raise ValueError where a sequence is empty or is not in a data file of ``size`` bytes."""
        sizes, begin = self._index.sizes.astype(np.int64), self._index._pointers
        end = begin + sizes * self._index._dtype_size
        if len(sizes) and ((sizes < 1) | (begin < 0) | (end > size)).any():
            raise ValueError(f"sequences end at byte {end.max():,} of {size:,}, or are empty")


def check_magic(index: Path) -> None:
    """Raise ValueError where a file does not begin as the index of a data set."""
    with open(index, "rb") as file:
        magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise ValueError(f"begins with {magic!r}, not {MAGIC!r}")


def open_sequences(files: HeldFiles, prefix: str) -> HeldSequences:
    """Open a data set of a data-bin, memory-mapped.

    Raises:
        CatalogueError: a file of it is missing or damaged.
    """
    return HeldSequences(files, prefix)


MAGIC = MMapIndexedDataset.Index._HDR_MAGIC
