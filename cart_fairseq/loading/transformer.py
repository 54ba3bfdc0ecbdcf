"""Loads a text encoder of the library transformers from a data-bin's folder."""

from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cart_fairseq.base.libraries import import_library
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.held_files import HeldFiles
from cart_fairseq.catalogue.text_encoder import CONFIG, WEIGHTS, missing
from cart_fairseq.loading.stored import MOST_LAYERS, check_weights, refuse_larger


def load_transformer(files: HeldFiles) -> Any:
    """Load the model that ``save_pretrained`` wrote, from its configuration and weights, in float32 and without a pooler; nothing is downloaded.

    Raises:
        CatalogueError: the configuration cannot be read, names code of its own or a model larger than the weights, or the
            weights are not finite or do not fit the model.
        ValueError: the library transformers is missing.
    """
    try:
        transformers = import_library("transformers")
    except ImportError:
        raise missing("transformers") from None
    with files.reading(CONFIG) as path:
        # without it, transformers asks whether to run the folder's own code
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    with files.reading(WEIGHTS) as path:
        weights = load_file(path)
        check_weights(weights)
    with files.reading(CONFIG):
        if not 1 <= config.num_hidden_layers <= MOST_LAYERS:
            raise ValueError(f"num_hidden_layers is {config.num_hidden_layers}, not between 1 and {MOST_LAYERS:,}")
        with torch.device("meta"):  # takes no memory
            sketch = without_pooler(transformers.AutoModel.from_config(config, trust_remote_code=False))
        refuse_larger(sum(parameter.numel() for parameter in sketch.parameters()), weights)
    model = without_pooler(transformers.AutoModel.from_config(config, trust_remote_code=False).float())
    try:
        model.load_state_dict(weights)
    except (RuntimeError, SafetensorError) as error:
        raise CatalogueError(
            f"{files.folder / WEIGHTS}: not the weights of a {type(model).__name__} "
            f"({str(error).splitlines()[-1].strip()}); binarise again with another --text-encoder, or with the "
            "version of transformers that wrote it"
        ) from None
    return model


def without_pooler(model: Any) -> Any:
    """Remove the model's pooler, in place, and return the model; the fusion does not use it."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model
