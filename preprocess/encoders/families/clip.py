"""CLIP (Radford et al., 2021) through `transformers`: images, videos as sequences of frames, texts."""

from preprocess.encoders.base import FRAMES, EncoderSettings, Reader
from preprocess.encoders.families.towers import Towers
from preprocess.encoders.pretrained import load_model, load_part, require_family

DEFAULT = "openai/clip-vit-large-patch14"


def load(name: str, settings: EncoderSettings) -> Towers:
    """Load a CLIP model by its name on the hub or its folder."""
    name = name or DEFAULT
    model, _ = load_model(name)
    require_family(name, model.config, "CLIP", ("clip", "metaclip_2"))
    config = model.config
    reader = Reader(load_part("AutoImageProcessor", name), frames=settings.frames or FRAMES)
    tokens = config.text_config.max_position_embeddings
    return Towers(model, load_part("AutoTokenizer", name), reader, config.projection_dim, tokens, settings)
