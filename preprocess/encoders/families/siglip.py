"""SigLIP (Zhai et al., 2023) and SigLIP 2 (Tschannen et al., 2025) of `transformers`: images, videos, texts."""

import torch

from preprocess.encoders.base import FRAMES, EncoderSettings, Reader
from preprocess.encoders.families.towers import Towers
from preprocess.encoders.pretrained import load_model, load_part, require_family

DEFAULT = "google/siglip2-so400m-patch14-384"


class SiglipTowers(Towers):
    """SigLIP. It was trained on texts in lower case, padded to the maximum length."""

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Return features of the texts in lower case."""
        return super().text_features([text.lower() for text in texts], searched)


def load(name: str, settings: EncoderSettings) -> SiglipTowers:
    """Load a SigLIP or SigLIP 2 model by its name on the hub or its folder."""
    name = name or DEFAULT
    model, _ = load_model(name)
    require_family(name, model.config, "SigLIP", ("siglip", "siglip2"))
    text = model.config.text_config
    reader = Reader(load_part("AutoImageProcessor", name), frames=settings.frames or FRAMES)
    tokenizer, width = load_part("AutoTokenizer", name), text.projection_size or text.hidden_size
    return SiglipTowers(model, tokenizer, reader, width, text.max_position_embeddings, settings, pad_to_max=True)
