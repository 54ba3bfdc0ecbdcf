"""Opens trained models with their catalogue; imports fairseq only for checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.held_files import Stamp, identity
from cart_fairseq.loading.hub import local_folder
from cart_fairseq.loading.model_folder import is_model_folder, open_model_folder
from cart_fairseq.network.model import CART


class Source(NamedTuple):
    """The files that models were loaded from.

    Attributes:
        path: a MODEL folder, a checkpoint, or the ensemble ``a.pt:b.pt``.
        stamps: the state of each checkpoint; empty for a MODEL folder.
    """

    path: str
    stamps: list[Stamp | None]

    @property
    def is_unchanged(self) -> bool:
        """Whether the checkpoints are the same files as then."""
        return not self.stamps or self.stamps == _stamps(self.path)


def _stamps(path: str) -> list[Stamp | None]:
    return [identity(Path(each)) for each in path.split(":")]


def open_source(
    path: str | Path,
    data: str | Path | None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> tuple[Sequence[CART], DataBin, Source]:
    """Open a MODEL folder, of the Hub, too, or checkpoints and their data-bin.

    Args:
        path, data: see :func:`open_models`; without ``data`` also ``owner/name`` of a MODEL folder on the Hub.
        revision, cache_dir, token: see :func:`cart_fairseq.loading.hub.local_folder`.

    Returns:
        The models, their data-bin, and what they were loaded from.

    Raises:
        ValueError: something is missing, damaged, or does not belong together; or a revision is given for checkpoints.
    """
    if data is None:
        path = local_folder(path, revision, cache_dir, token)
    elif revision is not None:
        raise ValueError(
            f"revision is {revision!r}, but a checkpoint with its data-bin is not on the Hub; leave it out"
        )
    source = Source(str(path), [] if is_model_folder(path) else _stamps(str(path)))
    return *open_models(path, data), source


def open_models(path: str | Path, data: str | Path | None) -> tuple[Sequence[CART], DataBin]:
    """Open a MODEL folder, or checkpoints and their data-bin.

    Args:
        path: the folder; or a checkpoint, or the ensemble ``a.pt:b.pt``.
        data: the data-bin of the checkpoints; None for a MODEL folder.

    Returns:
        The models, in evaluation mode, and their data-bin.

    Raises:
        ValueError: something is missing, damaged, or does not belong together.
    """
    own = is_model_folder(path)
    if data is None or (own and identity(Path(path)) == identity(Path(data))):
        return open_model_folder(path)
    if own:
        raise ValueError(f"{path}: is a MODEL folder, which has its own catalogue; leave out the data-bin {data}")
    from cart_fairseq.tasks.checkpoints import load_models  # fairseq takes seconds to import

    return load_models(path, data)
