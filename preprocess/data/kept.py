"""What a working folder keeps for the next run, with checksums: it is known to be whole, or it is made again.

A damaged disk, a power cut or a copy that was cut off may leave anything in a working folder.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.files import replacing, sha256, write_json
from cart_fairseq.base.reading import read_json

SUMS = "sums.npy"


def checksum_of(path: Path) -> Path:
    """The file beside ``path`` that has its checksum."""
    return path.with_name(f"{path.name}.sha256.json")


def is_whole(path: Path) -> bool:
    """Whether a file is what `keeping` wrote. If it is not, it is removed."""
    try:
        if path.is_file() and read_json(checksum_of(path)) == sha256(path):
            return True
    except (ValueError, OSError):
        pass
    path.unlink(missing_ok=True)
    return False


@contextmanager
def keeping(path: Path) -> Iterator[Path]:
    """Yield the name of a new file that takes the place of ``path`` when it is complete; its checksum follows."""
    with replacing(path) as new:
        yield new
    write_json(checksum_of(path), sha256(path))


class Shape(NamedTuple):
    """Type and shape of an array."""

    dtype: Any
    shape: tuple[int, ...]


class BlockStore:
    """Arrays in files that are filled block by block. A block counts only if its checksum is that of its content.

    Args:
        folder: receives a file for each array, and `sums.npy`. One that does not fit is made again.
        arrays: name -> type and shape of each array.
        blocks: number of blocks.
        content: returns the parts of a block, given its number.

    Attributes:
        arrays: name -> array, memory-mapped.
    """

    def __init__(
        self,
        folder: Path,
        arrays: Mapping[str, Shape],
        blocks: int,
        content: Callable[["BlockStore", int], Iterable[NDArray[Any] | bytes]],
    ):
        self._content = content
        shapes = {**arrays, SUMS.removesuffix(".npy"): Shape(np.uint64, (blocks,))}
        opened = _open_arrays(folder, shapes)
        if opened is None:
            shutil.rmtree(folder, ignore_errors=True)
            with replacing(folder, directory=True) as new:
                for name, each in shapes.items():
                    new_array(new / f"{name}.npy", *each)
            opened = {name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="r+") for name in shapes}
        self._sums = opened.pop(SUMS.removesuffix(".npy"))
        self.arrays = opened

    def _sum(self, number: int) -> int:
        digest = hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8)
        for part in self._content(self, number):
            digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
        return int.from_bytes(digest.digest(), "little") or 1  # 0 is that of a block that was never written

    def whole(self) -> NDArray[np.bool_]:
        """Which blocks are there and undamaged: (blocks,) bool. Reads them all."""
        return np.array([bool(known) and known == self._sum(n) for n, known in enumerate(self._sums.tolist())], bool)

    def keep(self, numbers: Sequence[int]) -> None:
        """Let blocks count, whose content is in the arrays, once it is on the disk."""
        for array in self.arrays.values():
            array.flush()
        for number in numbers:
            self._sums[number] = self._sum(number)
        self._sums.flush()


def _open_arrays(folder: Path, shapes: Mapping[str, Shape]) -> dict[str, np.memmap] | None:
    """Open the arrays of a folder; None where one is missing, damaged, cut off or of another shape."""
    found = {}
    for name, (dtype, shape) in shapes.items():
        path = folder / f"{name}.npy"
        try:
            size = path.stat().st_size
            array = np.lib.format.open_memmap(path, mode="r")
            # opened for writing, a file that was cut off would grow
            fits = array.shape == tuple(shape) and array.dtype == dtype and size == array.offset + array.nbytes
            if not fits:
                return None
            found[name] = np.lib.format.open_memmap(path, mode="r+")
        except Exception:  # damaged headers raise errors of many types
            return None
    return found
