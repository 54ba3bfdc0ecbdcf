"""Captioners, one file a family: what `preprocess.generate_captions --captioner FAMILY[:NAME_OR_PATH]` names.

==================  =================================  =============  =======================================
family              models                             modalities     unless named
==================  =================================  =============  =======================================
blip                BLIP                               image, video   Salesforce/blip-image-captioning-large
blip2               BLIP-2                             image, video   Salesforce/blip2-opt-2.7b
image-text-to-text  any such model of `transformers`   image, video   HuggingFaceTB/SmolVLM-Instruct
whisper             Whisper trained to describe sound  audio          MU-NLPC/whisper-small-audio-captioning
neighbours          none: borrows captions             any
==================  =================================  =============  =======================================
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from preprocess.captioners import blip, image_text_to_text, whisper
from preprocess.captioners.captioner import Captioner, Settings, Target
from preprocess.captioners.neighbours import NEIGHBOURS, NeighbourCaptioner
from preprocess.data.fields import BORROWED
from preprocess.encoders import resolve_device
from preprocess.encoders.base import PRECISIONS

__all__ = [
    "FAMILIES",
    "NEIGHBOURS",
    "PRECISIONS",
    "Captioner",
    "NeighbourCaptioner",
    "Settings",
    "Target",
    "load_model",
    "named",
    "source_of",
]

DEFAULTS = {**blip.DEFAULTS, "image-text-to-text": image_text_to_text.DEFAULT, "whisper": whisper.DEFAULT}
FAMILIES: Sequence[str] = (*DEFAULTS, BORROWED)


def named(spec: str) -> tuple[str, str]:
    """Family and checkpoint of `FAMILY[:NAME_OR_PATH]`; the checkpoint of `neighbours` is empty.

    >>> named("blip2"), named("whisper:models/whisper")
    (('blip2', 'Salesforce/blip2-opt-2.7b'), ('whisper', 'models/whisper'))

    Raises:
        ValueError: there is no such family, or it has no checkpoints.
    """
    family, _, name = spec.partition(":")
    if family not in FAMILIES:
        raise ValueError(f"--captioner {spec}: unknown family {family!r}; use one of {', '.join(FAMILIES)}")
    if family == BORROWED and name:
        raise ValueError(f"--captioner {spec}: neighbours has no checkpoints; give --embeddings")
    return family, name or DEFAULTS.get(family, "")


def source_of(family: str, name: str) -> str:
    """What captions of a captioner give as their source: the family and the checkpoint, a folder without its path."""
    if not name:
        return family
    return f"{family}:{Path(name).resolve().name if Path(name).is_dir() else name}"


def load_model(family: str, name: str, device: str, precision: str, settings: Settings) -> Captioner:
    """Load a captioner of any family but `neighbours`.

    Args:
        device: auto, cpu, cuda or cuda:N.
        precision: one of `PRECISIONS`.

    Raises:
        ValueError: it cannot be loaded.
    """
    place, dtype = torch.device(resolve_device(device)), getattr(torch, precision)
    try:
        if family in blip.DEFAULTS:
            return blip.load_blip(family, name, place, dtype, settings)
        if family == "whisper":
            return whisper.load_whisper(name, place, dtype, settings)
        return image_text_to_text.load_image_text_to_text(name, place, dtype, settings)
    except ImportError as error:
        missing = error.name or " ".join(str(error).split())
        raise ValueError(f"{family}:{name}: needs {missing}; pip install 'cart-fairseq[encoders]'") from None
