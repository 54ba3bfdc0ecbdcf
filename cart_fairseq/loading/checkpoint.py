"""Reads and writes fairseq's checkpoint files without fairseq."""

import argparse
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.base.files import replacing
from cart_fairseq.base.reading import first_line, unreadable
from cart_fairseq.loading.archive import ZIP, check_archive

A_CHECKPOINT = "give a checkpoint that fairseq-train wrote, such as checkpoint_best.pt"


def allow_namespaces() -> None:
    """Allow ``argparse.Namespace`` in torch's safe loading, because fairseq's checkpoints contain one."""
    torch.serialization.add_safe_globals([argparse.Namespace])


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU with torch's safe loading, which runs no code from the file.

    Raises:
        pickle.UnpicklingError, RuntimeError, EOFError: the file is damaged, or contains objects other than data.
        ValueError: its archive is compressed, damaged or another's, see :func:`~cart_fairseq.loading.archive.check_archive`.
    """
    allow_namespaces()
    check_archive(path)
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def read_settings(path: str | Path) -> Any:
    """The settings (``cfg``) of a checkpoint that :func:`read_checkpoint` has accepted; its weights are not read."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["cfg"]


def refuse_damaged(path: str | Path) -> None:
    """Raise if a file is not a checkpoint of fairseq.

    Raises:
        ValueError: it is a folder, missing, unreadable, cut off or damaged, or it contains something else.
    """
    if not str(path):
        raise ValueError(f"the path of the checkpoint is empty; {A_CHECKPOINT}")
    if os.path.isdir(path):
        raise ValueError(f"{path}: is a folder; {A_CHECKPOINT}")
    try:
        with open(path, "rb"):
            pass
    except FileNotFoundError:
        raise ValueError(f"{path}: no such checkpoint; train one with fairseq-train --task cart_retrieval") from None
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        found = read_checkpoint(path)
    except Exception as error:  # bytes that are no checkpoint raise errors of many types
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        raise ValueError(
            f"{path}: not a checkpoint that can be read in torch's safe mode ({_reason(path, error)}); give one that "
            "fairseq-train wrote, or train again"
        ) from None
    refuse_foreign(path, found)


def refuse_foreign(path: str | Path, found: Any) -> None:
    """Raise if what was read of a file is not a checkpoint of fairseq.

    Raises:
        ValueError: it contains something else.
    """
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        kind = f"the keys {[*found][:5]}" if isinstance(found, dict) else f"an object of type {type(found).__name__}"
        raise ValueError(f"{path}: contains {kind}, not a model of fairseq; {A_CHECKPOINT}")
    if not found.get("cfg") and not found.get("args"):
        raise ValueError(f"{path}: contains no settings of its training (cfg); {A_CHECKPOINT}")


def _reason(path: str | Path, error: Exception) -> str:
    """Say why a file cannot be read. torch's own message for most files is advice to load them unsafely."""
    if isinstance(error, OSError) and error.filename is not None:
        return first_line(error)
    with open(path, "rb") as file:
        begin = file.read(4)
    if not begin:
        return "the file is empty"
    if begin != ZIP:
        return f"the file begins with {begin!r}, a checkpoint with {ZIP!r}"
    if not zipfile.is_zipfile(path):
        return "the file is cut off or damaged"
    inner = "WeightsUnpickler error:"
    return first_line(error, inner if inner in str(error) else "")


def write_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    with replacing(path) as new:
        torch.save(state, new)
