"""Perception Encoder Audio-Visual (Vyas et al., 2025) of `transformers`: image, audio, video and text in one space.

The models for sounds alone (`pe_audio`) and for videos alone (`pe_video`) work, too. Images and videos need torchvision
and timm; transformers 5.23 works with timm 1.0.23 to 1.0.30. An image is encoded as a video of one frame. The sound of
a video is not used.
"""

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from preprocess.encoders.base import Encoder, EncoderSettings, Reader, Tensors
from preprocess.encoders.pretrained import OFFLINE, load_model, load_part, require_family

DEFAULT = "facebook/pe-av-large"
PE_FRAMES = 16
MAX_TOKENS = 512
PICTURES = "pip install 'timm>=1.0.23,<1.0.31' and the torchvision for your torch"
TYPES = {"pe_audio_video": ("image", "audio", "video"), "pe_audio": ("audio",), "pe_video": ("image", "video")}


@dataclasses.dataclass(frozen=True)
class PeReader(Reader):
    """`image_processor` is a video processor. It receives the chosen frames."""

    def pictures(self, images: Sequence[Any]) -> Tensors:
        """Return `pixel_values_videos` (1, frames, 3, height, width)."""
        frames = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
        return dict(self.image_processor(videos=[frames], do_sample_frames=False, return_tensors="pt"))


class PerceptionEncoder(Encoder):
    """PE-AV. It has two text heads: one to search sounds, one to search images and videos."""

    def __init__(self, model: Any, tokenizer: Any, reader: Reader, settings: EncoderSettings):
        config = model.config
        modalities = ("text", *TYPES[config.model_type])
        super().__init__(model, reader, modalities, config.text_config.hidden_size, settings)
        joint = config.model_type == "pe_audio_video"
        self.audio = model.audio_model if joint else model
        self.video = model.video_model if joint else model
        self.text_model = model.text_model
        self.tokenizer = tokenizer

    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """Return the outputs of the contrastive heads."""
        if modality == "audio":
            return self.audio.audio_head(self.audio.audio_encoder(**inputs).pooler_output)
        return self.video.video_head(self.video.video_encoder(**inputs).pooler_output)

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Return features to compare with those of media of the modality `searched`."""
        self.check(searched)
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").to(
            self.device
        )
        given = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        first = self.text_model(**given).last_hidden_state[:, 0]
        return self.audio.text_audio_head(first) if searched == "audio" else self.video.text_video_head(first)


def load(name: str, settings: EncoderSettings) -> PerceptionEncoder:
    """Load a PE-AV model by its name on the hub or its folder."""
    name = name or DEFAULT
    config = load_part("AutoConfig", name)
    require_family(name, config, "Perception Encoder AV", tuple(TYPES))
    if "video" in TYPES[config.model_type]:
        missing = [library for library in ("timm", "torchvision") if importlib.util.find_spec(library) is None]
        if missing:
            raise ValueError(f"{name}: images and videos need {' and '.join(missing)}; {PICTURES}")
    model, _ = load_model(name, remedy=f"{OFFLINE}; {PICTURES}")
    modalities = TYPES[config.model_type]
    reader = PeReader(
        load_part("AutoVideoProcessor", name) if "video" in modalities else None,
        load_part("AutoFeatureExtractor", name) if "audio" in modalities else None,
        settings.frames or PE_FRAMES,
    )
    return PerceptionEncoder(model, load_part("AutoTokenizer", name), reader, settings)
