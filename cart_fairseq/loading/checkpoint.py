"""fairseq's checkpoint files, read and written without fairseq."""

import argparse
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.files import replacing


def allow_namespaces() -> None:
    """Let torch's safe loading read the Namespace of arguments that fairseq's checkpoints hold."""
    torch.serialization.add_safe_globals([argparse.Namespace])


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU, by torch's safe loading, which runs no code of the file's.

    fairseq's own arguments are in a Namespace, which is let in.

    Raises:
        pickle.UnpicklingError, RuntimeError, EOFError: the file is damaged, or holds anything else than data.
    """
    allow_namespaces()
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def write_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write a checkpoint that is there whole or not at all."""
    with replacing(path) as new:
        torch.save(state, new)
