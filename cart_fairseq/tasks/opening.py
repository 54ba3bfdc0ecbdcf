"""Opens trained models with their catalogue; imports fairseq only for checkpoints."""

from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.held_files import identity
from cart_fairseq.loading.model_folder import is_model_folder, open_model_folder
from cart_fairseq.network.model import CART


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
