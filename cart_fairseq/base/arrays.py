"""Arrays in files, made so that writing to them cannot fail later."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.base.disk import naming, reserve


def new_array(path: str | Path, dtype: Any, shape: Sequence[int]) -> np.memmap:
    """Make a ``.npy`` file of zeros whose room is taken, and map it into memory.

    Raises:
        OSError: the disk has no room for it; the error names the file.
    """
    kind = np.dtype(dtype)
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": tuple(shape)}
    with naming(path), open(path, "xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        reserve(file.fileno(), file.tell() + math.prod(shape) * kind.itemsize)
    return np.lib.format.open_memmap(path, mode="r+")
