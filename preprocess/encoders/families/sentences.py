"""Any sentence-transformers model by name or path: texts only."""

from typing import Any

import torch

from cart_fairseq.libraries import import_library
from preprocess.encoders.base import Encoder, EncoderSettings, Tensors
from preprocess.encoders.pretrained import loading

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


class SentenceEncoder(Encoder):
    """Captions and queries as a model trained on sentences sees them."""

    def __init__(self, model: Any, settings: EncoderSettings):
        super().__init__(model, None, ("text",), model.encode(["a"], show_progress_bar=False).shape[1], settings)
        self.sentences = model

    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """Refused: there is no tower for media."""
        raise ValueError(f"SentenceEncoder takes text, not {modality}; choose another encoder")

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Features pooled as the model says."""
        return self.sentences.encode(
            texts, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False, device=str(self.device)
        )


def load(name: str, settings: EncoderSettings) -> SentenceEncoder:
    """A sentence-transformers model by its name on the hub or its folder."""
    library = import_library("sentence_transformers")
    name = name or DEFAULT
    return SentenceEncoder(loading(name, lambda: library.SentenceTransformer(name, device=settings.device)), settings)
