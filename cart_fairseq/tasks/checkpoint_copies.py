"""Makes fairseq copy checkpoints atomically.

fairseq writes one checkpoint under a temporary name, renames it, and then copies it over the others in place. A run
that is killed during a copy leaves a truncated ``checkpoint_last.pt``, from which training cannot resume.
"""

import shutil

from fairseq.file_io import PathManager

from cart_fairseq.base.files import replacing

_copy = PathManager.copy


def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    """Copy a local file atomically; URLs (``s3://…``) are left to fairseq's `PathManager.copy`."""
    if "://" in dst_path:
        return bool(_copy(src_path, dst_path, overwrite))
    with replacing(dst_path) as new:
        shutil.copyfile(src_path, new)
    return True


def install() -> None:
    """Replace fairseq's `PathManager.copy` by :func:`copy_whole`."""
    PathManager.copy = staticmethod(copy_whole)
