"""Encoders by name: `load_encoder("clip:openai/clip-vit-base-patch32")`.

A family is a module of `preprocess.encoders.families`. The module and the libraries that it needs are imported when an
encoder of the family is loaded.
"""

import importlib
from pathlib import Path

import torch

from cart_fairseq.base.files import digest
from preprocess.encoders.base import Encoder, EncoderSettings
from preprocess.encoders.settings import FAMILIES, PRECISIONS


def load_encoder(spec: str, device: str = "auto", precision: str = "float32", frames: int | None = None) -> Encoder:
    """Load an encoder with its weights.

    Args:
        spec: FAMILY or FAMILY:NAME_OR_PATH, where NAME is one on the hub and PATH a folder of `save_pretrained` (other
            forms of openclip and imagebind: see their modules).
        device: auto (cuda where there is one), cpu, cuda, or what else torch calls it.
        precision: float32, float16 or bfloat16, by autocast.
        frames: of a video; None for the family's own number.

    Raises:
        ValueError: unknown family, device or precision; a library that is missing; weights that cannot be loaded.
    """
    family, _, name = spec.partition(":")
    if family not in FAMILIES:
        raise ValueError(f"encoder {spec!r}: no family {family!r}; choose FAMILY:NAME_OR_PATH of {', '.join(FAMILIES)}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    settings = EncoderSettings(resolve_device(device), precision, frames)
    try:
        module = importlib.import_module(f"preprocess.encoders.families.{FAMILIES[family]}")
        encoder: Encoder = module.load(name, settings)
    except ImportError as error:
        raise ValueError(
            f"encoder {spec!r}: the library {error.name or str(error).strip().splitlines()[0]} is missing; "
            "pip install 'cart-fairseq[encoders]'"
        ) from None
    return encoder


def resolve_device(device: str) -> str:
    """Return cuda or cpu for `auto`, and other devices unchanged.

    Raises:
        ValueError: this machine does not have the device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    # torch raises different errors for unknown and for missing devices
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used ({reason}); choose auto, cpu or cuda") from None
    return device


def refuse_absent(spec: str, weights: object, where: str) -> None:
    """Refuse to load an encoder from the hub that was a local folder or file when it was used.

    Args:
        spec: FAMILY:NAME_OR_PATH.
        weights: its `weights_stamp` of then.
        where: what names it, for the message.

    Raises:
        ValueError: it was local, and is not here.
    """
    if weights is not None and ":" in spec and weights_stamp(spec) is None:
        name = spec.partition(":")[2]
        raise ValueError(
            f"{where}: needs the encoder {spec!r}, which was a folder or file where it was made and is not here; copy it "
            f"with the times of its files (cp -a), so that {name!r} leads to it from the working directory"
        )


def weights_stamp(spec: str) -> str | None:
    """Return a checksum of the sizes and times of a local model's files; None for a model from the hub.

    It changes with the weights, so that embeddings of other weights are not taken for current.
    """
    name = spec.partition(":")[2].removeprefix("local-dir:")
    for path in (Path(part) for part in (name, name.partition("@")[2]) if part):
        if path.exists():
            files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
            states = [(str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
            return digest(states)
    return None
