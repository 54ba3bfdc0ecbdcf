"""What packed files consist of: pieces, each to become a file, and problems."""

import lzma
import struct
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pyarrow as pa

from cart_fairseq.base.reading import printable, reason

DAMAGE = (
    *(tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, pa.ArrowException),
    *(OSError, EOFError, ValueError, LookupError, TypeError, OverflowError, RecursionError, MemoryError),
)
"""What tarfile, the libraries of compression and pyarrow raise for damaged files."""


class Piece(NamedTuple):
    """A file to write.

    Attributes:
        sample: pieces of one sample share it, and get one name with different endings.
        name: the name that it would like, a path with `/` and without the ending; nobody has looked at it.
        ending: such as `.jpg`.
        blocks: its content, which must be read before the next piece is asked for.
        modified: seconds since 1970.
        where: what messages call it.
    """

    sample: object
    name: str
    ending: str
    blocks: Iterator[bytes]
    modified: float
    where: str


class Problem(NamedTuple):
    """A part of a packed file that cannot be used: where, and why."""

    where: str
    reason: str


class Damaged(Exception):
    """A packed file cannot be read on from here; the message says why, and what to do."""


@contextmanager
def unpacking() -> Iterator[None]:
    """Turn whatever goes wrong inside into `Damaged`.

    Raises:
        Damaged: the file is damaged, or cannot be read.
    """
    try:
        yield
    except DAMAGE as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
        raise Damaged(printable(f"damaged or cut off ({said}); copy the file again")) from None
