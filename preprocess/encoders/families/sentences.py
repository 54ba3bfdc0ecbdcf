"""Any sentence-transformers model by name or path. It embeds texts only."""

from typing import Any

import torch

from cart_fairseq.base.libraries import import_library
from preprocess.encoders.base import Encoder, EncoderSettings, Tensors
from preprocess.encoders.pretrained import loading

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


class SentenceEncoder(Encoder):
    """A sentence-transformers model."""

    def __init__(self, model: Any, settings: EncoderSettings):
        super().__init__(model, None, ("text",), model.encode(["a"], show_progress_bar=False).shape[1], settings)
        self.sentences = model

    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """Raise an error: there is no tower for media."""
        raise ValueError(f"SentenceEncoder accepts text, not {modality}; choose another encoder")

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Return features, pooled as the model is configured."""
        return self.sentences.encode(
            texts, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False, device=str(self.device)
        )


def load(name: str, settings: EncoderSettings) -> SentenceEncoder:
    """Load a sentence-transformers model by its name on the hub or its folder."""
    library = import_library("sentence_transformers")
    name = name or DEFAULT
    return SentenceEncoder(loading(name, lambda: library.SentenceTransformer(name, device=settings.device)), settings)
