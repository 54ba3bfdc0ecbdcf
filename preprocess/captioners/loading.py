"""Load models of `transformers` that generate text."""

from typing import Any

import torch

from cart_fairseq.base.libraries import import_library
from preprocess.encoders.pretrained import loading


def load_writer(kind: str, name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a model with all its weights for inference.

    Args:
        kind: the name of its class in `transformers`.
        name: name on the hub, or a folder.

    Raises:
        ValueError: it cannot be loaded, or the checkpoint lacks weights, which would be random numbers.
    """
    cls = getattr(import_library("transformers"), kind)
    model, report = loading(name, lambda: cls.from_pretrained(name, dtype=dtype, output_loading_info=True))
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise ValueError(
            f"{name}: lacks {len(missing)} weights of {type(model).__name__} ({missing[0]} …), which would be "
            "random; choose a checkpoint that was trained to generate captions"
        )
    return model.to(device).eval()
