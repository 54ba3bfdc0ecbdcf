"""Arrays in a data-bin that depend on a model's weights: folders named by a digest of what they were computed from."""

import contextlib
import errno
import hashlib
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.base.files import is_plain_name, replacing, sha256, write_json
from cart_fairseq.base.hub_cache import refuse_writing
from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.catalogue.errors import CatalogueError, read_json
from cart_fairseq.network.precision import digest_of_encoder, weights_digest

ENCODER = "encoder."
STORED = "search"
"""The folder in a data-bin."""
CHECKSUMS = "checksums.json"
HALF_EXPONENT = 0x7C00
"""The bits of the exponent of a float16; all are set in NaN and infinite values."""
REMEDY = "remove the folder; preprocess.update_identifiers renew makes it again, or an export that of an exported model"
logger = logging.getLogger(__name__)


def stored_folder(items: DenseItems) -> Path | None:
    """Return the folder of a data-bin; None if another data-bin has taken its place."""
    return items.folder / STORED if items.is_in_place else None


def may_be_read(folder: Path) -> bool:
    """Whether a folder is there, and it and its files may be read; a warning says where this is not allowed."""
    try:
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # the reader names what is missing
                path.open("rb").close()
    except PermissionError as error:
        logger.warning(f"{error.filename}: may not be read, so each search computes what the folder would hold")
        return False
    except OSError:
        return False
    return True


def folder_to_write(items: DenseItems) -> Path:
    """Return the folder of a data-bin.

    Raises:
        OSError: it is a link, which could lead out of a foreign data-bin; it is in the Hub's cache; or another data-bin has
            taken its place.
    """
    folder = stored_folder(items)
    if folder is None:
        raise OSError(errno.ESTALE, "was replaced by another data-bin since it was opened", str(items.folder))
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a link, and nothing is written through it", str(folder))
    refuse_writing(folder)
    return folder


def digest_of(models: Sequence[Any], names: tuple[str, ...], *parts: Tensor | str) -> str:
    """Hexadecimal SHA-256 of weights and of other values, the same on every device.

    Args:
        models: the models.
        names: beginnings of the names of the weights that count; :data:`ENCODER` stands for the encoder's as they were
            before a conversion to another precision.
        parts: tensors and texts.
    """
    digest = hashlib.sha256()
    for model in models:
        for name in names:
            if name == ENCODER:
                digest.update(digest_of_encoder(model))
            else:
                chosen = {key: value for key, value in model.state_dict().items() if key.startswith(name)}
                digest.update(weights_digest(chosen))
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else weights_digest({"": part}))
    return digest.hexdigest()


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as ``NAME.npy`` into a folder, and their checksums."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    note_checksums(folder, arrays)


def copy_stored(name: str, source: DenseItems, target: DenseItems) -> None:
    """Copy a folder of arrays from a data-bin into another, if it is there and complete, and not yet in the other.

    Raises:
        CatalogueError: an array is damaged.
        OSError: the other data-bin cannot be written to.
    """
    stored = stored_folder(source)
    folder, new_folder = None if stored is None else stored / name, folder_to_write(target) / name
    if folder is None or not folder.is_dir() or new_folder.exists():
        return
    expected = stored_checksums(folder)
    if not expected:  # of an earlier version
        return
    with replacing(new_folder, directory=True) as new:
        for file, checksum in expected.items():
            path = folder / file
            if not path.is_file() or sha256(path) != checksum:
                raise CatalogueError(f"{path}: missing, or its checksum differs; {REMEDY}")
            shutil.copyfile(path, new / file)
        for path in folder.glob("*.json"):
            shutil.copyfile(path, new / path.name)


def note_checksums(folder: Path, names: Iterable[str]) -> None:
    """Record the SHA-256 of arrays in a folder."""
    write_json(folder / CHECKSUMS, {f"{name}.npy": sha256(folder / f"{name}.npy") for name in names})


def stored_checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files in a folder, by name, as far as they were recorded.

    Raises:
        CatalogueError: the record is damaged.
    """
    path = folder / CHECKSUMS
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not all(is_plain_name(name) for name in found):
        raise CatalogueError(f"{path}: not a record of checksums; {REMEDY}")
    return found


def check_finite(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Refuse values of a stored array that rank nothing.

    Raises:
        CatalogueError: one is NaN or infinite.
    """
    if values.dtype == np.float16:  # by the bits of the exponent: numpy converts each half, which takes longer
        bits = np.ascontiguousarray(values).view(np.uint16) & HALF_EXPONENT
        finite = not (bits == HALF_EXPONENT).any()
    else:
        finite = bool(np.isfinite(values).all())
    if not finite:
        raise CatalogueError(f"{folder}/{name}.npy: holds NaN or infinite values; {REMEDY}")


def open_array(folder: Path, name: str, dtype: Any, shape: Sequence[int | None], mapped: bool = False) -> NDArray[Any]:
    """Open an array that :func:`save_arrays` wrote.

    Args:
        folder, name: where it is.
        dtype: its type.
        shape: its shape; None for a size that may be any.
        mapped: memory-map it; what is written to it stays in memory.

    Raises:
        CatalogueError: the file is missing or damaged, or holds something else.
    """
    path = folder / f"{name}.npy"
    try:
        # mapped in any case: a header that is damaged asks for no more memory than the file has
        found: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # numpy raises errors of many types for damaged files
        raise CatalogueError(f"{path}: missing or damaged ({error}); {REMEDY}") from None
    same = len(found.shape) == len(shape) and all(n in (None, size) for n, size in zip(shape, found.shape, strict=True))
    if not same or not np.issubdtype(found.dtype, dtype):
        raise CatalogueError(f"{path}: holds {found.dtype} of shape {found.shape}; {REMEDY}")
    return found if mapped else np.array(found)
