"""Checkpoints that a killed run leaves whole.

fairseq writes one checkpoint under a temporary name and renames it, then copies it over the others in place: a run killed
meanwhile leaves a part of ``checkpoint_last.pt``, from which the next cannot go on.
"""

import shutil

from fairseq.file_io import PathManager

from cart_fairseq.files import replacing

_copy = PathManager.copy


def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    """`PathManager.copy`, but a local file is there whole or not at all; addresses (``s3://…``) are fairseq's own matter."""
    if "://" in dst_path:
        return bool(_copy(src_path, dst_path, overwrite))
    with replacing(dst_path) as new:
        shutil.copyfile(src_path, new)
    return True


def install() -> None:
    """Let fairseq copy so."""
    PathManager.copy = staticmethod(copy_whole)
