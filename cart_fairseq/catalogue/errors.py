"""The error for files of a data-bin or identifier bundle that cannot be used, whatever reads them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cart_fairseq.base import reading as readers


class CatalogueError(ValueError):
    """A file of a data-bin or identifier bundle is missing, damaged, or does not belong to the others."""


class UnknownItem(ValueError):
    """An item id is not in the catalogue."""


@contextlib.contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Name the file in the error of what cannot be read.

    Args:
        path: the file that the block reads.
        remedy: the last part of the error message.

    Raises:
        CatalogueError: the block raised an error for a damaged file.
    """
    try:
        yield
    except CatalogueError:
        raise
    except Exception as error:  # libraries raise errors of many types for damaged files
        raise CatalogueError(str(readers.unusable(path, error, remedy))) from None


def read_json(path: Path) -> Any:
    """Parse a JSON file of a bundle or data-bin, as :func:`cart_fairseq.base.reading.read_json` does.

    Raises:
        CatalogueError: the file is missing, not UTF-8 or not JSON; the message names it.
    """
    try:
        return readers.read_json(path)
    except (ValueError, OSError) as error:
        raise CatalogueError(str(error)) from None
