"""Inference in lower precision: bfloat16, float16, and int8 weights with dynamically quantised activations."""

import functools
import hashlib
import logging
import os
import time
from typing import Any

import torch
from torch import Tensor, nn

from cart_fairseq.base.settings import AUTO, PRECISIONS

NARROW = 128
"""Models narrower than this are searched in float32: there is little to gain."""
PROBE_NOISE = 0.05
LEAST_GAIN = 1.1
"""Least gain of bf16 in speed for which it is chosen."""
ROWS, TRIALS = 128, 5
KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}
"""How many kernels oneDNN and torch keep, unless the environment says otherwise. Each batch of queries has another
shape, which gets a kernel of its own in bf16; 1,024 of each, the default, are 600 MiB and make no search faster."""
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

logger = logging.getLogger(__name__)


def convert(model: Any, precision: str) -> Any:
    """Convert a ``cart`` model for inference, in place, and return it.

    Scores are summed in float32 in every precision, and the dense head stays float32, so that item vectors do not depend
    on the precision of a search. ``int8`` works on CPUs only. It quantises the weights of all linear layers except the
    output projection and those of the dense head. The context half of the fine fusion's gates is not a linear layer and
    stays float32.

    Args:
        model: the model.
        precision: one of :data:`cart_fairseq.base.settings.PRECISIONS`; ``auto``: see :func:`fastest`.

    Raises:
        ValueError: the precision is unknown, int8 was chosen for a model on a GPU, or the model is in int8 already and
            another precision was chosen.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if model.precision == "int8" != precision:
        raise ValueError(f"the model is in int8, from which there is no way back to {precision}; load it again")
    for name, value in KERNELS.items():  # read when the first kernel is made
        os.environ.setdefault(name, value)
    model.float()  # with --fp16, fairseq's commands have halved the whole model
    device = next(model.parameters()).device
    width = max(model.decoder.output_projection.weight.size(1), getattr(model.encoder, "width", 0))
    if precision == "int8" and device.type != "cpu":
        raise ValueError(f"precision int8 works on CPUs only, but the model is on {device}; use bf16 or fp16")
    if precision == AUTO:
        precision = fastest(str(device), width)
        logger.info("precision auto: %s", precision)
    elif precision != "float32":
        warn_if_slow(str(device), width, precision)
    model.precision = precision
    if precision == "float32":
        return model
    dense, reader = model.dense, model.reader
    level_discount, calibration = model.level_discount, model.calibration
    if dense is not None:
        model.encoder_digest = digest_of_encoder(model)
    model.dense = model.reader = None
    if precision == "int8":
        _quantise(model)
    else:
        model.to(DTYPES[precision])
    model.dense, model.reader = dense, reader
    model.level_discount, model.calibration = level_discount, calibration
    return model


def _quantise(model: nn.Module) -> None:
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    wanted = {
        name: torch.ao.quantization.default_dynamic_qconfig
        for name in linear
        if not name.endswith("output_projection")  # its rows are sliced by position
    }
    torch.ao.quantization.quantize_dynamic(model, wanted, dtype=torch.qint8, inplace=True)


@functools.cache
def fastest(device: str, width: int) -> str:
    """Choose the precision of a search: ``bf16`` if it is at least a tenth faster than ``float32``, else that.

    A probe of a few milliseconds decides, once in a process: two linear layers and a layer norm of the model's width.
    """
    if width < NARROW:
        return "float32"
    return "bf16" if gain(device, width, "bf16") >= LEAST_GAIN else "float32"


@functools.cache
def gain(device: str, width: int, precision: str, rows: int = ROWS) -> float:
    """How many times faster than float32 a precision is on a device, for layers of a width."""
    seconds = {name: float("inf") for name in ("float32", precision)}
    with torch.no_grad():
        dtypes = {name: DTYPES.get(name, torch.float32) for name in seconds}
        layers = {name: _layers(width).to(device, dtype).eval() for name, dtype in dtypes.items()}
        if precision == "int8":
            _quantise(layers[precision])
        inputs = {name: torch.ones(rows, width, device=device, dtype=dtype) for name, dtype in dtypes.items()}
        for _ in range(TRIALS):
            for name, layer in layers.items():
                began = time.perf_counter()
                layer(inputs[name])[0, 0].item()  # waits for a GPU
                seconds[name] = min(seconds[name], time.perf_counter() - began)
    return seconds["float32"] / seconds[precision]


def _layers(width: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


@functools.cache
def warn_if_slow(device: str, width: int, precision: str) -> None:
    """Log once in a process that a chosen precision is slower than float32 here, by more than a probe varies."""
    found = gain(device, width, precision, rows=8)  # float16 takes seconds for more on some processors
    if found < 1 - PROBE_NOISE:
        logger.warning("precision %s is %.1f times slower than float32 here; choose auto", precision, 1 / found)


def digest_of_encoder(model: Any) -> bytes:
    """SHA-256 of the encoder's weights before they were converted, the same on every device."""
    known = getattr(model, "encoder_digest", None)
    return known if known is not None else weights_digest(model.encoder.state_dict())


def weights_digest(state: dict[str, Tensor]) -> bytes:
    """SHA-256 of the names, dtypes, shapes and values of weights."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(f"{name} {value.dtype} {(*value.shape,)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.digest()
