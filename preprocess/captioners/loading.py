"""Models of `transformers` that write texts, with all their weights, on a device and in a precision."""

from typing import Any

import torch

from cart_fairseq.libraries import import_library
from preprocess.encoders.pretrained import loading


def load_writer(kind: str, name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """A model for inference.

    Args:
        kind: the name of its `transformers` class.
        name: on the hub, or a folder.

    Raises:
        ValueError: it cannot be loaded, or weights are missing, which would otherwise be random numbers.
    """
    cls = getattr(import_library("transformers"), kind)
    model, report = loading(name, lambda: cls.from_pretrained(name, dtype=dtype, output_loading_info=True))
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise ValueError(
            f"{name}: lacks {len(missing)} weights of {type(model).__name__} ({missing[0]} …), they would be random; "
            "choose a checkpoint that was trained to write captions"
        )
    return model.to(device).eval()
