"""CLAP (Wu et al., 2023; Elizalde et al., 2023) through `transformers`: sounds and texts."""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from preprocess.encoders.base import EncoderSettings, Reader, Tensors
from preprocess.encoders.families.towers import Towers
from preprocess.encoders.pretrained import load_model, load_part, require_family

DEFAULT = "laion/clap-htsat-unfused"


@dataclasses.dataclass(frozen=True)
class ClapReader(Reader):
    """Cuts 10 seconds out of longer sounds at places that depend on the length only; CLAP's own are random."""

    def sound(self, samples: NDArray[np.float32]) -> Tensors:
        """Return the spectrogram, and `is_longer`: whether the sound is longer than the model encodes."""
        before = np.random.get_state()  # noqa: NPY002, transformers draws from the global generator
        np.random.seed(0)  # noqa: NPY002
        try:
            inputs = super().sound(samples)
        finally:
            np.random.set_state(before)  # noqa: NPY002
        # if all sounds are short, transformers marks one as long, which is meant for training
        inputs["is_longer"] = torch.tensor([[len(samples) > self.feature_extractor.nb_max_samples]])
        return inputs


def load(name: str, settings: EncoderSettings) -> Towers:
    """Load a CLAP model by its name on the hub or its folder."""
    name = name or DEFAULT
    model, _ = load_model(name)
    require_family(name, model.config, "CLAP", ("clap",))
    config = model.config
    reader = ClapReader(feature_extractor=load_part("AutoFeatureExtractor", name))
    tokenizer, text = load_part("AutoTokenizer", name), config.text_config
    # RoBERTa's positions start after the index of padding
    tokens = min(tokenizer.model_max_length, text.max_position_embeddings - text.pad_token_id - 1)
    return Towers(model, tokenizer, reader, config.projection_dim, tokens, settings)
