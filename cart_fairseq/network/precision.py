"""Inference in lower precision: bfloat16, float16, and int8 weights with dynamically quantised activations."""

from typing import Any

import torch
from torch import nn

from cart_fairseq.settings import PRECISIONS


def convert(model: Any, precision: str) -> Any:
    """Convert a ``cart`` model for inference, in place, and return it.

    Scores are summed in float32 in every precision. ``int8`` works on CPUs only. It quantises the weights of all linear
    layers except the output projection. The context half of the fine fusion's gates is not a linear layer and stays
    float32.

    Args:
        model: the model.
        precision: one of :data:`cart_fairseq.settings.PRECISIONS`.

    Raises:
        ValueError: the precision is unknown, or int8 was chosen for a model on a GPU.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if precision == "bf16":
        return model.bfloat16()
    if precision == "fp16":
        return model.half()
    if precision == "float32":
        return model.float()
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise ValueError(f"precision int8 works on CPUs only, but the model is on {device}; use bf16 or fp16")
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    wanted = {
        name: torch.ao.quantization.default_dynamic_qconfig
        for name in linear
        if not name.endswith("output_projection")  # its rows are sliced by position
    }
    torch.ao.quantization.quantize_dynamic(model, wanted, dtype=torch.qint8, inplace=True)
    return model
