"""Dual towers of `transformers`: models with `get_text_features` and `get_image_features` or `get_audio_features`."""

from typing import Any

import torch

from preprocess.encoders.base import ClipReader, Encoder, EncoderSettings, Reader, Tensors


class Towers(Encoder):
    """A dual tower. It encodes the frames of a video one by one, or all at once if the reader is a `ClipReader`.

    Args:
        model: has `get_image_features`, `get_video_features` or `get_audio_features`, and `get_text_features`.
        tokenizer: tokenizer of its text tower.
        reader: a reader with an image processor, a feature extractor or both.
        dimension: D of the shared space.
        max_tokens: longer texts are truncated.
        settings: how it runs.
        pad_to_max: pad every text to `max_tokens` and pass no mask, as in SigLIP's training.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        reader: Reader,
        dimension: int,
        max_tokens: int,
        settings: EncoderSettings,
        pad_to_max: bool = False,
    ):
        pictures: tuple[str, ...] = () if reader.image_processor is None else ("image", "video")
        if isinstance(reader, ClipReader):
            pictures = ("video",)
        sounds = ("audio",) if reader.feature_extractor is not None else ()
        super().__init__(model, reader, ("text", *pictures, *sounds), dimension, settings)
        self.towers = model
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.pad_to_max = pad_to_max

    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """Return projected features of images, frames, videos or sounds."""
        if modality == "audio":
            return pooled(self.towers.get_audio_features(**inputs))
        if isinstance(self.reader, ClipReader):
            return pooled(self.towers.get_video_features(**inputs))
        return pooled(self.towers.get_image_features(**inputs))

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Return projected features. One text tower serves all media."""
        tokens = self.tokenizer(
            texts,
            padding="max_length" if self.pad_to_max else True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(self.device)
        given = {"input_ids": tokens["input_ids"]}
        if not self.pad_to_max:
            given["attention_mask"] = tokens["attention_mask"]
        return pooled(self.towers.get_text_features(**given))


def pooled(output: Any) -> torch.Tensor:
    """Return the features: a tensor before transformers 5, the pooled output of an object since then."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output
