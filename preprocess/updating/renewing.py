"""Updates that also write what searches with a checkpoint read beside it, see `cart_fairseq.publishing.renewing`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.catalogue.errors import UnknownItem
from preprocess.updating.change import Updated
from preprocess.updating.new_items import KnownItem

MODEL_CONFIG = "config.json"
"""A file of MODEL folders, and of no bundle or data-bin."""


def checkpoint_of(target: Path, path: str | Path | None) -> str | Path | None:
    """The checkpoint whose searches are renewed after an update: `path`, or a MODEL folder's own models.

    Raises:
        ValueError: the target is a bundle, which nothing searches.
    """
    if path is not None:
        if not (target / "identifiers").is_dir():
            raise ValueError(
                f"{target}: is no data-bin, which a checkpoint searches; give one, or leave the checkpoint out"
            )
        return path
    if (target / MODEL_CONFIG).is_file():
        from cart_fairseq.loading.model_folder import is_model_folder

        return str(target) if is_model_folder(target) else None
    return None


def with_renewal(target: Path, path: str | Path | None, update: Callable[[], Updated]) -> Updated:
    """Run an update, and write what searches read after it.

    Args:
        target: the data-bin or identifier bundle.
        path: the checkpoint; None for that of a MODEL folder, if it is one.
        update: changes the catalogue.

    Raises:
        ValueError: the checkpoint cannot be read or does not belong to the data-bin, and nothing was changed; or see
            the update.
    """
    path = checkpoint_of(target, path)
    if path is None:
        return update()
    from cart_fairseq.publishing.renewing import renewal

    renewed = renewal(path, target)
    try:
        updated = update()
    except (KnownItem, UnknownItem) as error:
        again = f"{program('preprocess.update_identifiers')} renew --data-bin {target} --path {path}"
        raise type(error)(
            f"{error}; if an earlier run did this and was stopped later, finish it with {again}"
        ) from None
    if not renewed():
        return updated
    return dataclasses.replace(updated, summary=f"{updated.summary}\n{up_to_date(target, path)}")


def renew(target: str | Path, path: str | Path | None = None) -> bool:
    """Change nothing, and write priors, statistics and vectors that searches with a checkpoint read into the data-bin.

    Args:
        target: a data-bin or a MODEL folder.
        path: the checkpoint, or an ensemble ``a.pt:b.pt``. None: the models of a MODEL folder.

    Returns:
        False if the data-bin cannot be written to; a warning says so.

    Raises:
        ValueError: the checkpoint cannot be read or does not belong to the data-bin.
    """
    from cart_fairseq.publishing.renewing import renewal

    checkpoint = checkpoint_of(Path(target), path)
    if checkpoint is None:
        raise ValueError(f"{target}: holds no model; name the checkpoint whose searches are renewed")
    return renewal(checkpoint, target)()


def up_to_date(target: Path, path: str | Path) -> str:
    """Say that what searches read is written."""
    return f"{target}: what searches with {path} read is up to date"
