"""Opens fairseq's indexed data sets, ``PREFIX.bin`` and ``PREFIX.idx``, from the held files of a data-bin."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fairseq.data.indexed_dataset import MMapIndexedDataset, _code_to_dtype
from numpy.typing import NDArray

from cart_fairseq.catalogue.dictionary import EOS
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.held_files import HeldFiles

MAGIC = MMapIndexedDataset.Index._HDR_MAGIC
HEADER = struct.Struct(f"<{len(MAGIC)}sQB")
"""How an index begins: magic bytes, version, code of the dtype. fairseq checks too late: the object is half made then."""
BLOCK = 1 << 16
"""Sequences that are checked at once."""


class HeldSequences(MMapIndexedDataset):
    """An indexed data set of held files. A copy in another process, made by pickle, opens the files by their names.

    Args:
        files: the held files.
        prefix: the data set's name.
    """

    def __init__(self, files: HeldFiles, prefix: str):
        self._files = files
        super().__init__(str(files.folder / prefix))

    def __del__(self) -> None:
        if hasattr(self, "_bin_buffer_mmap"):
            super().__del__()

    def _do_init(self, path: str) -> None:
        files: HeldFiles | None = getattr(self, "_files", None)
        if files is None:
            super()._do_init(path)
            return
        self._path = path
        prefix = Path(path).name
        with files.reading(f"{prefix}.idx") as opened:
            check_header(opened)
            self._index = self.Index(str(opened))
            self._check(files.size(f"{prefix}.bin"))
        with files.reading(f"{prefix}.bin") as opened:
            self._bin_buffer_mmap = np.memmap(opened, mode="r", order="C")
        self._bin_buffer = memoryview(self._bin_buffer_mmap)  # type: ignore[arg-type]

    def _check(self, size: int) -> None:
        """Raise ValueError where a sequence is empty or is not in a data file of ``size`` bytes."""
        sizes, begin, width = self._index.sizes.astype(np.int64), self._index._pointers, self._index._dtype_size
        end = begin + sizes * width
        if len(sizes) and ((sizes < 1) | (begin < 0) | (begin % width != 0) | (end > size)).any():
            raise ValueError(f"sequences end at byte {end.max():,} of {size:,}, or are empty")

    def check_queries(self, symbols: int) -> None:
        """Check that every symbol is one of a dictionary.

        Args:
            symbols: the size of the dictionary.

        Raises:
            CatalogueError: one is not.
        """
        every = self._symbols()
        for begin in range(0, len(every), BLOCK):
            block = every[begin : begin + BLOCK]
            if int(block.min()) < 0 or int(block.max()) >= symbols:
                self._refuse(f"symbols of a dictionary of {symbols:,}")

    def check_identifiers(self, offsets: NDArray[np.int64], sizes: Sequence[int]) -> None:
        """Check that every sequence is an identifier and the end of the sentence.

        Args:
            offsets: (J,) the first symbol of each position.
            sizes: of the J positions.

        Raises:
            CatalogueError: one is not.
        """
        least, most = np.append(offsets, EOS), np.append(offsets + np.array(sizes), EOS + 1)
        wanted = f"identifiers of {len(sizes)} positions"
        if (self.sizes != len(least)).any():
            self._refuse(wanted)
        every, first = self._symbols(), self._index._pointers // self._index._dtype_size
        for begin in range(0, len(first), BLOCK):
            block = every[first[begin : begin + BLOCK, None] + np.arange(len(least))]
            if (block < least).any() or (block >= most).any():
                self._refuse(wanted)

    def _symbols(self) -> NDArray[np.integer]:
        """All symbols in the data file, memory-mapped."""
        width = self._index._dtype_size
        return np.frombuffer(self._bin_buffer, self._index.dtype, len(self._bin_buffer) // width)

    def _refuse(self, wanted: str) -> None:
        raise CatalogueError(f"{self._path}.bin: holds something else than {wanted}; {self._files.remedy}")


def check_header(index: Path) -> None:
    """Raise ValueError where a file does not begin as the index of a data set."""
    with open(index, "rb") as file:
        found = file.read(HEADER.size)
    if len(found) < HEADER.size:
        raise ValueError(f"has {len(found)} bytes")
    magic, version, code = HEADER.unpack(found)
    if magic != MAGIC:
        raise ValueError(f"begins with {magic!r}, not {MAGIC!r}")
    if version != 1 or not np.issubdtype(_code_to_dtype.get(code, float), np.integer):
        raise ValueError(f"is of version {version} and type {code}, not of version 1 and integers")


def open_sequences(files: HeldFiles, prefix: str) -> HeldSequences:
    """Open a data set of a data-bin, memory-mapped.

    Raises:
        CatalogueError: a file of it is missing or damaged.
    """
    return HeldSequences(files, prefix)
