"""Inference in fewer bits: bfloat16, float16, and int8 weights with activations quantised as they come."""

from typing import Any

import torch
from torch import nn

from cart_fairseq.settings import PRECISIONS


def convert(model: Any, precision: str) -> Any:
    """Convert a ``cart`` model for inference, in place; returns the model.

    Scores are summed in float32 whatever the precision. ``int8`` quantises the weights of all linear maps but the output
    projection and the gates of the fine fusion, and is for CPUs.

    Raises:
        ValueError: the precision is unknown, or int8 is asked of a GPU.
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
        raise ValueError(f"precision int8 is for CPUs, the model is on {device}; use bf16 or fp16 there")
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    wanted = {
        name: torch.ao.quantization.default_dynamic_qconfig
        for name in linear
        if not name.endswith("output_projection")  # its rows are taken apart by position
    }
    torch.ao.quantization.quantize_dynamic(model, wanted, dtype=torch.qint8, inplace=True)
    return model
