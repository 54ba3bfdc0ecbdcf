"""Uploads a MODEL folder to the Hugging Face Hub, in one commit, so that nobody finds half of it there."""

import os
import tempfile
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from cart_fairseq.base.files import sha256
from cart_fairseq.base.hub_cache import snapshot_of
from cart_fairseq.catalogue.checksums import verify_files
from cart_fairseq.catalogue.data_bin import REMEDY, TEXT_ENCODER, DataBin
from cart_fairseq.catalogue.data_bin_fields import OURS
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.segments import MANIFEST
from cart_fairseq.loading.hub import LIBRARY, NAME, import_hub
from cart_fairseq.loading.model_folder import README
from cart_fairseq.publishing.exporting import IDENTIFIER_BUNDLE, export, not_updated
from cart_fairseq.search.dense.stored_arrays import STORED, stored_checksums
from cart_fairseq.tasks.opening import Source

MAIN = "main"


def push(
    data: DataBin,
    source: Source | None,
    repo_id: str,
    private: bool | None = None,
    commit_message: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Upload a MODEL folder; a checkpoint and its data-bin are exported first.

    Args:
        data: the folder, or the data-bin, as it was opened.
        source: what the models were loaded from; None if they were made in Python.
        repo_id, private, commit_message, revision, token: see
            :meth:`cart_fairseq.retriever.CartRetriever.push_to_hub`.

    Returns:
        The address of the commit.

    Raises:
        ValueError: there are no such files, they have changed or are damaged; the Hub refuses; or the library is missing.
    """
    if not NAME.fullmatch(repo_id):
        raise ValueError(f"repo_id is {repo_id!r}; give owner/name, the owner being your account or an organisation")
    hub = import_hub()
    if source is None:
        raise ValueError(
            f"{data.root}: the models were not opened from files, so there is nothing to push; open a MODEL folder of "
            "python -m cart_fairseq.export with from_pretrained"
        )
    if not source.stamps:
        with _unchanging(data.root):
            files = _files_of(_opened_again(data))
            return _upload(hub, repo_id, files, _message(data, commit_message), private, revision, token)
    if not source.is_unchanged:
        raise ValueError(f"{source.path}: has changed since it was opened; open it again, then push")
    with tempfile.TemporaryDirectory(prefix="cart-push-") as folder:
        made = DataBin(export(source.path, data.root, Path(folder) / "MODEL").path)
        if made.bundle.state != data.bundle.state:
            raise ValueError(f"{data.root}: was updated since it was opened; open it again, then push")
        files, message = _files_of(made), _message(data, commit_message)
        return _upload(hub, repo_id, files, message, private, revision, token, new_card=True)


def _opened_again(data: DataBin) -> DataBin:
    """Open a MODEL folder as it is now.

    Raises:
        ValueError: it is no longer as it was opened, or an update of it was interrupted.
    """
    now = DataBin(data.root)
    if now.directory != now.root:
        raise ValueError(f"{data.root}: an update of it was interrupted; give its command again, then push")
    if now.manifest != data.manifest or now.bundle.state != data.bundle.state:
        raise ValueError(f"{data.root}: has changed since it was opened; open it again, then push")
    return now


@contextmanager
def _unchanging(folder: Path) -> Iterator[None]:
    """Keep other processes from updating a MODEL folder, where that is possible at all."""
    if snapshot_of(folder) is not None or not os.access(folder / IDENTIFIER_BUNDLE, os.W_OK):
        yield
        return
    with not_updated(folder, "push"):
        yield


def _files_of(data: DataBin) -> dict[str, Path]:
    """The files of a MODEL folder, by their names in it, and no other files that lie there.

    Raises:
        CatalogueError: one is damaged.
        ValueError: the model card is a link.
    """
    data.verify()
    data.bundle.verify()
    found = {name: data.root / name for name in (*data.files.names, MANIFEST)}
    of_bundle = (*data.bundle.files.names, MANIFEST)
    found |= {f"{IDENTIFIER_BUNDLE}/{name}": data.bundle.directory / name for name in of_bundle}
    if data.encoder_files is not None:
        verify_files(data.encoder_files, data.manifest["text_encoder"], data.encoder_files.names, REMEDY)
        found |= {f"{TEXT_ENCODER}/{name}": data.root / TEXT_ENCODER / name for name in data.encoder_files.names}
    for folder in sorted((data.root / STORED).glob("[!.]*/")):
        sums = stored_checksums(folder)
        for name, expected in sums.items():
            if not (folder / name).is_file() or sha256(folder / name) != expected:
                raise CatalogueError(f"{folder / name}: missing, or its checksum differs; {REMEDY}")
        others = [path.name for path in folder.glob("*.json")] if sums else []
        found |= {f"{STORED}/{folder.name}/{name}": folder / name for name in (*sums, *others)}
    card = data.root / README
    if card.is_symlink() and snapshot_of(card.parent) is None:
        raise ValueError(
            f"{card}: is a link, and what it leads to may not be meant to be published; put a file in its place"
        )
    return found | ({README: card} if card.is_file() else {})


def _message(data: DataBin, message: str | None) -> str:
    return message or f"CART model with {len(data.bundle.kept):,} items"


def _upload(
    hub: ModuleType,
    repo_id: str,
    files: dict[str, Path],
    message: str,
    private: bool | None,
    revision: str | None,
    token: str | bool | None,
    new_card: bool = False,
) -> str:
    """Make the repository and the branch if need be, and commit.

    Args:
        new_card: whether the model card was just written, so that one on the Hub, which may be filled in, stays.

    Raises:
        ValueError: the Hub refuses, or cannot be reached.
    """
    api, branch = hub.HfApi(token=token, library_name=LIBRARY), revision or MAIN
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.repo_info(repo_id).private:
            raise ValueError(f"{repo_id}: is public, but private=True was asked for; make it private on its page first")
        if branch != MAIN and not branch.startswith("refs/"):
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        parent = api.repo_info(repo_id, revision=branch).sha
        there = set(api.list_repo_files(repo_id, revision=parent))
        if new_card and README in there:
            del files[README]
        operations: list[Any] = [hub.CommitOperationAdd(name, str(path)) for name, path in files.items()]
        operations += [hub.CommitOperationDelete(name) for name in sorted(_stale(there, files))]
        with warnings.catch_warnings():
            # the records of the items are a table, which belongs to the model
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
            done = api.create_commit(repo_id, operations, commit_message=message, revision=branch, parent_commit=parent)
        return str(done.commit_url)
    except Exception as error:  # of several libraries
        ours = isinstance(error, ValueError) and str(error).startswith(f"{repo_id}: ")
        if ours or (isinstance(error, OSError) and error.errno is not None):  # the latter are of the disk
            raise
        raise ValueError(_refusal(repo_id, error)) from None


def _stale(there: Iterable[str], files: dict[str, Path]) -> set[str]:
    """Files of an earlier upload that the new one lacks; a model card stays, which people fill in."""
    kept = {*files, README}
    return {name for name in there if OURS.fullmatch(name.partition("/")[0]) and name not in kept}


def _refusal(repo_id: str, error: Exception) -> str:
    return f"{repo_id}: the Hub does not take the upload ({_said(error)}); check the name, the connection and hf auth whoami"


def _said(error: Exception) -> str:
    """What the server said, if it did, else what the library says, in one line."""
    return textwrap.shorten(str(getattr(error, "server_message", None) or error or type(error).__name__), 240)
