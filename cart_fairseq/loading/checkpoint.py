"""Reads and writes fairseq's checkpoint files without fairseq."""

import argparse
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


def write_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    with replacing(path) as new:
        torch.save(state, new)
