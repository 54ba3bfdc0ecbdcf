"""Any model of `transformers` by name: a dual tower, or a model of one modality.

Dual towers are models with `get_text_features` and the corresponding methods for media. For other models of images or
sounds, the embedding is the pooled output if the checkpoint has its weights, otherwise the mean of the last hidden
states. For models of texts it is the mean over tokens.
"""

from typing import Any

import numpy as np
import torch

from preprocess.encoders.base import FRAMES, ClipReader, Encoder, EncoderSettings, Reader, Tensors
from preprocess.encoders.families.towers import Towers
from preprocess.encoders.pretrained import load_model, load_part

MAX_TOKENS = 512
"""Default, if neither tokenizer nor model has a limit."""
MODALITY_OF_INPUT = {"pixel_values": "image", "input_values": "audio", "input_features": "audio", "input_ids": "text"}


class SingleTower(Encoder):
    """A model of one modality.

    Args:
        model: a model of `transformers`. Of an encoder-decoder, the encoder is used.
        reader: for media; None for texts.
        tokenizer: for texts; None for media.
        modalities: the modalities that the model accepts.
        max_tokens: longer texts are truncated.
        use_pooler: whether its pooled output is trained.
        settings: how it runs.
    """

    def __init__(
        self,
        model: Any,
        reader: Reader | None,
        tokenizer: Any,
        modalities: tuple[str, ...],
        max_tokens: int,
        use_pooler: bool,
        settings: EncoderSettings,
    ):
        tower = model.get_encoder() if model.config.is_encoder_decoder else model
        super().__init__(tower, reader, modalities, 0, settings)
        self.tower = tower
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.use_pooler = use_pooler

    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """Return the pooled output, or the mean over positions."""
        output = self.tower(**inputs)
        pooler_output = output.get("pooler_output")
        if self.use_pooler and pooler_output is not None:
            return pooler_output.flatten(1)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:  # (n, D, height, width) of convolutional networks
            return hidden.mean(dim=(2, 3))
        mask = inputs.get("attention_mask")
        if mask is not None and hasattr(self.tower, "_get_feature_vector_attention_mask"):
            return masked_mean(hidden, self.tower._get_feature_vector_attention_mask(hidden.shape[1], mask))
        return hidden.flatten(1, -2).mean(dim=1)

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Return the mean over tokens."""
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.device)
        given = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        return masked_mean(self.tower(**given).last_hidden_state, given["attention_mask"])


def masked_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(n, T, D) states and (n, T) mask -> (n, D) means over the unmasked positions."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def load(name: str, settings: EncoderSettings) -> Encoder:
    """Load a model by its name on the hub or its folder.

    Raises:
        ValueError: it cannot be loaded, or accepts neither images, videos, sounds nor texts alone.
    """
    if not name:
        raise ValueError("encoder 'auto' needs a model; give auto:NAME_OR_PATH, with a name on the hub or a folder")
    model, missing = load_model(name, optional=("pooler.", "masked_spec_embed", "decoder."))
    encoder = (
        towers(name, model, settings)
        if hasattr(model, "get_text_features")
        else single(name, model, not any(key.startswith("pooler.") for key in missing), settings)
    )
    encoder.dimension = probe(encoder)
    return encoder


def towers(name: str, model: Any, settings: EncoderSettings) -> Towers:
    """Return a dual tower."""
    clips = hasattr(model, "get_video_features")
    pictures = clips or hasattr(model, "get_image_features")
    image_processor = load_part("AutoImageProcessor", name) if pictures else None
    extractor = load_part("AutoFeatureExtractor", name) if hasattr(model, "get_audio_features") else None
    frames = frames_of(model.config, settings)
    reader = (ClipReader if clips else Reader)(image_processor, extractor, frames)
    tokenizer = load_part("AutoTokenizer", name)
    return Towers(model, tokenizer, reader, 0, max_tokens(model.config, tokenizer), settings)


def single(name: str, model: Any, use_pooler: bool, settings: EncoderSettings) -> SingleTower:
    """Return a model of one modality."""
    modality = MODALITY_OF_INPUT.get(model.main_input_name)
    frames = frames_of(model.config, settings)
    if modality == "text":
        tokenizer = load_part("AutoTokenizer", name)
        tokens = max_tokens(model.config, tokenizer)
        return SingleTower(model, None, tokenizer, ("text",), tokens, use_pooler, settings)
    if modality == "audio":
        reader = Reader(feature_extractor=load_part("AutoFeatureExtractor", name))
        return SingleTower(model, reader, None, ("audio",), 0, use_pooler, settings)
    if modality == "image":
        clips = hasattr(model.config, "num_frames")
        reader = (ClipReader if clips else Reader)(load_part("AutoImageProcessor", name), None, frames)
        modalities = ("video",) if clips else ("image", "video")
        return SingleTower(model, reader, None, modalities, 0, use_pooler, settings)
    raise ValueError(
        f"{name}: {type(model).__name__} accepts {model.main_input_name}, which 'auto' cannot prepare; choose a model "
        "of images, sounds or texts, or another family"
    )


def frames_of(config: Any, settings: EncoderSettings) -> int:
    """Return the number of frames of a video: from the settings, else the model's own."""
    own = getattr(config, "num_frames", None) or getattr(getattr(config, "vision_config", None), "num_frames", None)
    return settings.frames or own or FRAMES


def max_tokens(config: Any, tokenizer: Any) -> int:
    """Return the number of tokens at which texts are truncated."""
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None) or MAX_TOKENS
    return min(tokenizer.model_max_length, positions)


def probe(encoder: Encoder) -> int:
    """Return D, from the features of a grey image, a second of noise or a word."""
    from PIL import Image

    with torch.inference_mode():
        if "text" in encoder.modalities:
            return encoder.text_features(["a"], "image").shape[-1]
        assert encoder.reader is not None
        reader, (modality, *_) = encoder.reader, sorted(encoder.modalities)
        if modality == "audio":
            noise = np.random.default_rng(0).standard_normal(reader.feature_extractor.sampling_rate)
            inputs = reader.sound(noise.astype(np.float32))
        else:
            grey = Image.new("RGB", (64, 64), (127, 127, 127))
            inputs = reader.pictures([grey] * (reader.frames if modality == "video" else 1))
        moved = {name: value.to(encoder.device) for name, value in inputs.items()}
        return encoder.media_features(modality, moved).shape[-1]
