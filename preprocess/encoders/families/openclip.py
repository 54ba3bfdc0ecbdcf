"""OpenCLIP (Cherti et al., 2023) through its package, open_clip: images, videos as sequences of frames, texts.

The name of a model is `MODEL@WEIGHTS`, where WEIGHTS is a tag of the package or a file (`ViT-H-14@laion2b_s32b_b79k`).
The package's own names are accepted, too: `hf-hub:ORGANISATION/NAME` and `local-dir:FOLDER`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from preprocess.encoders.base import FRAMES, Encoder, EncoderSettings, Reader, Tensors
from preprocess.encoders.pretrained import loading

DEFAULT = "ViT-H-14@laion2b_s32b_b79k"
WEIGHTS = "give MODEL@TAG, MODEL@FILE or local-dir:FOLDER; without network, only tags downloaded before work"


@dataclasses.dataclass(frozen=True)
class OpenClipReader(Reader):
    """`image_processor` is the model's transform of one image."""

    def pictures(self, images: Sequence[Any]) -> Tensors:
        """Return `image` (frames, 3, height, width)."""
        return {"image": torch.stack([self.image_processor(image) for image in images])}


class OpenClipEncoder(Encoder):
    """OpenCLIP. The image tower encodes each frame of a video."""

    def __init__(self, model: Any, tokenizer: Any, reader: Reader, settings: EncoderSettings):
        super().__init__(model, reader, ("text", "image", "video"), 0, settings)
        self.towers = model
        self.tokenizer = tokenizer
        with torch.inference_mode():
            self.dimension = self.text_features(["a"], "image").shape[-1]

    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """Return projected features of images or frames."""
        return self.towers.encode_image(inputs["image"])

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Return projected features."""
        return self.towers.encode_text(self.tokenizer(texts).to(self.device))


def load(name: str, settings: EncoderSettings) -> OpenClipEncoder:
    """Load an OpenCLIP model; see the module's docstring.

    Raises:
        ValueError: open_clip is not installed, or the model cannot be loaded.
    """
    try:
        import open_clip
    except ImportError as error:
        raise ValueError(
            f"encoder openclip: the library {error.name} is missing; pip install open_clip_torch and the torchvision "
            f"for torch {torch.__version__.partition('+')[0]}"
        ) from None
    name = name or DEFAULT
    architecture, _, weights = name.partition("@")
    if not weights and ":" not in architecture:
        raise ValueError(
            f"encoder 'openclip:{name}': has no weights; name them, as in openclip:{name}@laion2b_s34b_b79k"
        )
    model, _, transform = loading(
        name, lambda: open_clip.create_model_and_transforms(architecture, pretrained=weights or None), WEIGHTS
    )
    tokenizer = loading(name, lambda: open_clip.get_tokenizer(architecture), WEIGHTS)
    return OpenClipEncoder(model, tokenizer, OpenClipReader(transform, frames=settings.frames or FRAMES), settings)
