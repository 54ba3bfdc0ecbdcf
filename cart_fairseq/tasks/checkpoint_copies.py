"""Makes fairseq write and copy checkpoints atomically.

fairseq writes one checkpoint under a temporary name, renames it, and then copies it over the others in place. A run
that is killed during a copy leaves a truncated ``checkpoint_last.pt``, from which training cannot resume. On a full disk
it leaves the temporary file, which keeps the disk full, and shows tracebacks that name no file.
"""

import shutil
from typing import Any

from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from cart_fairseq.base.files import replacing
from cart_fairseq.loading.checkpoint import write_checkpoint

_copy = PathManager.copy
_save = checkpoint_utils.torch_persistent_save


def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    """Copy a local file atomically; URLs (``s3://…``) are left to fairseq's `PathManager.copy`."""
    if "://" in dst_path:
        return bool(_copy(src_path, dst_path, overwrite))
    with replacing(dst_path) as new:
        shutil.copyfile(src_path, new)
    return True


def save_whole(obj: Any, filename: str, async_write: bool = False) -> None:
    """Write a local checkpoint atomically; URLs and writing in the background are left to fairseq.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    if async_write or not isinstance(filename, str) or "://" in filename:
        _save(obj, filename, async_write)
        return
    try:
        write_checkpoint(filename, obj)
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, filename) from error


def install() -> None:
    """Replace fairseq's `PathManager.copy` by :func:`copy_whole`, and its `torch_persistent_save` by :func:`save_whole`."""
    PathManager.copy = staticmethod(copy_whole)
    checkpoint_utils.torch_persistent_save = save_whole
