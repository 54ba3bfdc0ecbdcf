"""BLIP and BLIP-2 (Li et al., 2022; 2023). They caption single pictures; of a video, each caption describes a frame.

`PictureCaptioner` works with any `image-text-to-text` model of `transformers` that has no chat template.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from preprocess.captioners.captioner import Target
from preprocess.captioners.drawing import draw, grouped
from preprocess.captioners.loading import load_writer
from preprocess.captioners.settings import CaptionerSettings
from preprocess.encoders.pretrained import load_part
from preprocess.media.frames import load_frames
from preprocess.media.images import load_image

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_TYPES = {"blip": "blip", "blip2": "blip-2"}


class PictureCaptioner:
    """Captions single pictures: several captions of an image, or one caption for each of several frames of a video.

    Args:
        model: a model with `generate` that accepts pictures.
        processor: its processor.
        settings: `prompt` is the beginning of every caption. It is removed from the result.
    """

    modalities = frozenset({"image", "video"})
    batch_size = 16

    def __init__(self, model: Any, processor: Any, settings: CaptionerSettings):
        self.model = model
        self.processor = processor
        self.settings = settings

    def load(self, target: Target) -> "list[Image]":
        """Return the picture of an image, or one frame of a video per caption, evenly spaced."""
        if target.modality == "video":
            return load_frames(target.file, self.settings.captions_per_item)
        return [load_image(target.file)]

    def caption(self, targets: Sequence[Target], loaded: "Sequence[list[Image]]") -> list[list[str]]:
        """See `Captioner`."""
        texts: dict[str, list[str]] = {}
        for pictures in {len(pictures) for pictures in loaded}:
            members = [(t, p) for t, p in zip(targets, loaded, strict=True) if len(p) == pictures]
            found = self._caption([t.item_id for t, _ in members], [picture for _, p in members for picture in p])
            texts.update((target.item_id, group) for (target, _), group in zip(members, found, strict=True))
        return [texts[target.item_id] for target in targets]

    def _caption(self, item_ids: list[str], pictures: "list[Image]") -> list[list[str]]:
        """Return captions of items with the same number of pictures."""
        count = self.settings.captions_per_item
        prompt = self.settings.prompt
        words = {"text": [prompt] * len(pictures), "padding": True} if prompt else {}
        inputs = self.processor(images=pictures, return_tensors="pt", **words).to(self.model.device, self.model.dtype)
        names = [(item_id, number) for item_id in item_ids for number in range(count)]
        sequences = draw(self.model, inputs, names, len(names) // len(pictures), self.settings)
        texts = self.processor.batch_decode(sequences, skip_special_tokens=True)
        return grouped([without_prompt(text, prompt) for text in texts], count)


def without_prompt(text: str, prompt: str | None) -> str:
    """Remove the prompt, which models repeat with their own spelling.

    >>> without_prompt("a picture of two dogs", "A picture of")
    'two dogs'
    """
    text, start = text.strip(), (prompt or "").strip()
    return text[len(start) :].strip() if text.casefold().startswith(start.casefold()) else text


def load_blip(
    family: str, name: str, device: torch.device, dtype: torch.dtype, settings: CaptionerSettings
) -> PictureCaptioner:
    """Load a BLIP or BLIP-2 checkpoint.

    Args:
        family: `blip` or `blip2`.

    Raises:
        ValueError: it cannot be loaded, or is another model.
    """
    model = load_writer("AutoModelForImageTextToText", name, device, dtype)
    found = model.config.model_type
    if found != MODEL_TYPES[family]:
        raise ValueError(f"{name}: is a {found} model, not {MODEL_TYPES[family]}; use image-text-to-text:{name}")
    return PictureCaptioner(model, load_part("AutoProcessor", name), settings)
