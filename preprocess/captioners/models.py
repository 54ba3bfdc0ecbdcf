"""Load captioners that use a model."""

import torch

from preprocess.captioners.blip import load_blip
from preprocess.captioners.captioner import Captioner
from preprocess.captioners.families import CaptionerName
from preprocess.captioners.image_text_to_text import load_image_text_to_text
from preprocess.captioners.settings import CaptionerSettings
from preprocess.captioners.whisper import load_whisper
from preprocess.encoders.loading import resolve_device


def load_model(name: CaptionerName, device: str, precision: str, settings: CaptionerSettings) -> Captioner:
    """Load a captioner of any family but `neighbours`.

    Args:
        device: auto, cpu, cuda or cuda:N.
        precision: float32, float16 or bfloat16.

    Raises:
        ValueError: it cannot be loaded.
    """
    place, dtype = torch.device(resolve_device(device)), getattr(torch, precision)
    family, checkpoint = name
    try:
        if family in ("blip", "blip2"):
            return load_blip(family, checkpoint, place, dtype, settings)
        if family == "whisper":
            return load_whisper(checkpoint, place, dtype, settings)
        return load_image_text_to_text(checkpoint, place, dtype, settings)
    except ImportError as error:
        missing = error.name or " ".join(str(error).split())
        raise ValueError(f"{family}:{checkpoint}: needs {missing}; pip install 'cart-fairseq[encoders]'") from None
