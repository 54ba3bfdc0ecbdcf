"""Models on the Hugging Face Hub: downloaded into its cache, or found there. The library is imported for their names only."""

import os
import re
from pathlib import Path
from types import ModuleType

from cart_fairseq.base.reading import first_line
from cart_fairseq.catalogue.segments import MANIFEST
from cart_fairseq.loading.model_folder import CONFIG, is_model_folder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
EXTRA = "huggingface_hub is not installed; pip install 'cart-fairseq[hub]'"
LIBRARY = "cart-fairseq"


def is_hub_name(path: str | Path) -> bool:
    """Whether a text is the name of a model on the Hub: ``owner/name``, and nothing here has this path.

    >>> is_hub_name("owner/name"), is_hub_name("/owner/name"), is_hub_name(Path("owner/name"))
    (True, False, False)
    """
    return isinstance(path, str) and NAME.fullmatch(path) is not None and not os.path.lexists(path)


def local_folder(
    path: str | Path,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> str | Path:
    """Return where a MODEL folder lies; one of the Hub is downloaded unless the Hub's cache has it.

    Args:
        path: a folder, which is returned as it is; or ``owner/name``.
        revision: branch, tag or commit on the Hub (default: ``main``).
        cache_dir: the cache (default: that of ``huggingface_hub``, see ``HF_HOME``).
        token: what the Hub is to know you by (default: that of ``hf auth login``).

    Raises:
        ValueError: a local folder has no revisions; the Hub has no such model, or it is no MODEL folder; the Hub cannot
            be reached and its cache lacks it; or ``huggingface_hub`` is not installed.
        OSError: the cache cannot be written.
    """
    if not is_hub_name(path):
        if revision is not None:
            raise ValueError(f"{path}: is a path on this machine, where there are no revisions; leave out {revision!r}")
        return path
    name = str(path)
    hub = import_hub(f"{name}: no such folder here, and for one on the Hub ")
    options = {"cache_dir": cache_dir, "token": token, "library_name": LIBRARY}
    try:
        # what names a MODEL folder comes first: another model's weights may take gigabytes
        found = Path(hub.snapshot_download(name, revision=revision, allow_patterns=[CONFIG, MANIFEST], **options))
        if is_model_folder(found):
            return Path(hub.snapshot_download(name, revision=found.name, **options))
    except Exception as error:  # of several libraries
        raise _explained(name, revision, error, hub) from None
    raise ValueError(
        f"{name}: revision {revision or 'main'} of it on the Hub has no {CONFIG} and {MANIFEST} of cart_fairseq.export; "
        "check the name and the revision"
    )


def import_hub(beginning: str = "") -> ModuleType:
    """Import ``huggingface_hub``.

    Raises:
        ValueError: it is not installed. The message has this beginning.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise ValueError(beginning + EXTRA) from None
    return huggingface_hub


def _explained(name: str, revision: str | None, error: Exception, hub: ModuleType) -> Exception:
    """The error to raise for one of the library, which has several lines."""
    if isinstance(error, OSError) and error.errno is not None:  # of the disk
        return error
    errors = hub.errors
    if isinstance(error, errors.GatedRepoError):
        return ValueError(f"{name}: its owner gives access on request; ask for it on its page, then hf auth login")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ValueError(
            f"{name}: no such folder here, and the Hub has no such model, or does not show it to you; check the name, or "
            "hf auth login"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(f"{name}: the Hub has no revision {revision!r} of it; give a branch, a tag or a commit")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ValueError(
            f"{name}: no such folder here, the Hub cannot be reached (or HF_HUB_OFFLINE is set), and its cache does not hold "
            "all of it; check the path, or try again with a connection"
        )
    return ValueError(f"{name}: cannot be had from the Hub ({first_line(error)}); check the name and the connection")
