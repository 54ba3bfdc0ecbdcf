"""Any `image-text-to-text` model of `transformers`, which receives a picture and an instruction to describe it.

Models whose processor has a chat template receive all frames of a video in one message. Other models caption single
pictures, as BLIP does.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from preprocess.captioners.blip import PictureCaptioner
from preprocess.captioners.captioner import Target
from preprocess.captioners.drawing import draw, grouped
from preprocess.captioners.loading import load_writer
from preprocess.captioners.settings import CaptionerSettings
from preprocess.encoders.pretrained import load_part
from preprocess.media.frames import load_frames
from preprocess.media.images import load_image

if TYPE_CHECKING:
    from PIL.Image import Image

PROMPT = "Describe this {modality} in one sentence."


class ChatCaptioner:
    """Captions images, or videos by several frames at once, with a chat model.

    Args:
        model: a model with `generate`.
        processor: its processor, with a chat template.
        settings: `prompt` follows the pictures in the message. `{modality}` in it is replaced by image or video.
    """

    modalities = frozenset({"image", "video"})
    batch_size = 8

    def __init__(self, model: Any, processor: Any, settings: CaptionerSettings):
        self.model = model
        self.processor = processor
        self.processor.tokenizer.padding_side = "left"  # generation continues after the last token
        self.settings = settings

    def load(self, target: Target) -> "list[Image]":
        """Return the picture of an image, or frames of a video."""
        if target.modality == "video":
            return load_frames(target.file, self.settings.frames)
        return [load_image(target.file)]

    def caption(self, targets: Sequence[Target], loaded: "Sequence[list[Image]]") -> list[list[str]]:
        """See `Captioner`."""
        count = self.settings.captions_per_item
        messages = [self._message(target, pictures) for target, pictures in zip(targets, loaded, strict=True)]
        inputs = self.processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self.model.device, self.model.dtype)
        names = [(target.item_id, number) for target in targets for number in range(count)]
        sequences = draw(self.model, inputs, names, count, self.settings)
        if not self.model.config.is_encoder_decoder:
            sequences = sequences[:, inputs["input_ids"].shape[1] :]
        return grouped(self.processor.batch_decode(sequences, skip_special_tokens=True), count)

    def _message(self, target: Target, pictures: "list[Image]") -> list[dict[str, Any]]:
        text = (self.settings.prompt or PROMPT).replace("{modality}", target.modality or "image")
        content = [*({"type": "image", "image": picture} for picture in pictures), {"type": "text", "text": text}]
        return [{"role": "user", "content": content}]


def load_image_text_to_text(
    name: str, device: torch.device, dtype: torch.dtype, settings: CaptionerSettings
) -> ChatCaptioner | PictureCaptioner:
    """Load a checkpoint of a class that `AutoModelForImageTextToText` supports.

    Raises:
        ValueError: it cannot be loaded.
    """
    model = load_writer("AutoModelForImageTextToText", name, device, dtype)
    processor = load_part("AutoProcessor", name)
    talks = getattr(processor, "chat_template", None)
    return ChatCaptioner(model, processor, settings) if talks else PictureCaptioner(model, processor, settings)
