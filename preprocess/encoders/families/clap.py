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
    """CLAP cuts pieces of 10 seconds out of longer sounds at random; here at places that depend on the length alone."""

    def sound(self, samples: NDArray[np.float32]) -> Tensors:
        """The spectrogram; `is_longer` says whether the sound is longer than what is encoded."""
        before = np.random.get_state()  # noqa: NPY002, transformers draws from the global generator
        np.random.seed(0)  # noqa: NPY002
        try:
            inputs = super().sound(samples)
        finally:
            np.random.set_state(before)  # noqa: NPY002
        # of sounds that are all short, transformers calls one long, which is meant for training
        inputs["is_longer"] = torch.tensor([[len(samples) > self.feature_extractor.nb_max_samples]])
        return inputs


def load(name: str, settings: EncoderSettings) -> Towers:
    """A CLAP model by its name on the hub or its folder."""
    name = name or DEFAULT
    model, _ = load_model(name)
    require_family(name, model.config, "CLAP", ("clap",))
    config = model.config
    reader = ClapReader(feature_extractor=load_part("AutoFeatureExtractor", name))
    tokenizer, text = load_part("AutoTokenizer", name), config.text_config
    # RoBERTa counts positions from one behind that of padding
    tokens = min(tokenizer.model_max_length, text.max_position_embeddings - text.pad_token_id - 1)
    return Towers(model, tokenizer, reader, config.projection_dim, tokens, settings)
