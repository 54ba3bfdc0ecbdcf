"""Reads and writes fairseq's checkpoint files without fairseq."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.files import replacing


def allow_namespaces() -> None:
    """Allow ``argparse.Namespace`` in torch's safe loading, because fairseq's checkpoints contain one."""
    torch.serialization.add_safe_globals([argparse.Namespace])


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU with torch's safe loading, which runs no code from the file.

    Raises:
        pickle.UnpicklingError, RuntimeError, EOFError: the file is damaged, or contains objects other than data.
    """
    allow_namespaces()
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def refuse_damaged(path: str | Path) -> None:
    """Raise if a file is not a checkpoint of fairseq.

    Raises:
        ValueError: it is a folder, missing, unreadable, cut off or damaged, or it contains something else.
    """
    remedy = "give a checkpoint that fairseq-train wrote, such as checkpoint_best.pt"
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; {remedy}")
    if not path.exists():
        raise ValueError(f"{path}: no such checkpoint; train one with fairseq-train --task cart_retrieval")
    try:
        found = read_checkpoint(path)
    except (OSError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: not a checkpoint that can be read in torch's safe mode ({reason}); give one that fairseq-train "
            "wrote, or train again"
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        kind = f"the keys {[*found][:5]}" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise ValueError(f"{path}: contains {kind}, not a model of fairseq; {remedy}")
    if not found.get("cfg") and not found.get("args"):
        raise ValueError(f"{path}: contains no settings of its training (cfg); {remedy}")


def write_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    with replacing(path) as new:
        torch.save(state, new)
