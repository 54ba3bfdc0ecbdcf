"""Checks what a checkpoint stores, before any of it is used: its weights and the settings of its model and task.

Torch's safe loading runs no code of the file, but fairseq then builds the task and the model that the stored settings
name, some of which evaluate their options. :mod:`cart_fairseq.tasks.checked_checkpoints` keeps only what this module
accepts.
"""

import argparse
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from cart_fairseq.base.checks import Scalar, is_number, short
from cart_fairseq.base.settings import CALIBRATION_PARAMETERS, SCORINGS
from cart_fairseq.network.config import NetworkConfig, StackConfig

TRAIN_AGAIN = "give a checkpoint that fairseq-train wrote, or train again"
MOST_LAYERS = 1000
MOST_POSITIONS = 1 << 16
DIGITS = ("revision_digits", "history_bytes")


def check_weights(weights: Any) -> None:
    """Check that weights are named, dense and finite tensors whose values are all in the file.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(weights, Mapping):
        raise ValueError(f"its model is an object of type {type(weights).__name__}, not weights; {TRAIN_AGAIN}")
    stored: dict[int, int] = {}
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise ValueError(
                f"its weights hold {short(name)} of type {type(tensor).__name__}, not a tensor; {TRAIN_AGAIN}"
            )
        storage = tensor.untyped_storage()
        if tensor.is_quantized or tensor.device.type != "cpu" or tensor.nbytes > storage.nbytes():
            raise ValueError(f"its weight {name} is no plain tensor of shape {(*tensor.shape,)}; {TRAIN_AGAIN}")
        stored[storage.data_ptr()] = storage.nbytes()
    # two names may share their values, as tied embeddings do
    if sum(tensor.nbytes for tensor in weights.values()) > 2 * sum(stored.values()):
        raise ValueError(f"its weights share the values of one another; {TRAIN_AGAIN}")
    for name, tensor in weights.items():
        if not _is_finite(tensor):
            raise ValueError(
                f"its weight {name} holds NaN or infinite values; train again, or give an earlier checkpoint"
            )


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return not tensor.is_complex()
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())  # NaN is the least and the greatest value


def check_ranking(weights: Mapping[str, Tensor]) -> None:
    """Check the ranking weights that a model of ``cart`` stores, and the revision that divides its candidates.

    Raises:
        ValueError: the level discount is not in (0, 1], the weight of the dense score is negative, the share of priors
            is not in [0, 1], a digit of the revision or history is not in [0, 255], or the calibration is out of range.
    """
    for name in DIGITS:
        digits = weights.get(name)
        if digits is not None and not (digits.ndim == 1 and len(digits) and ((digits >= 0) & (digits <= 255)).all()):
            raise ValueError(f"its weight {name} is {short(digits.tolist())}, not digits; {TRAIN_AGAIN}")
    ranges = (("level_discount", 0.0, 1.0), ("dense.weight", 0.0, float("inf")), ("dense.prior_share", 0.0, 1.0))
    for name, least, most in ranges:
        found = weights.get(name)
        if found is None:
            continue
        if found.numel() != 1:
            raise ValueError(f"its weight {name} has shape {(*found.shape,)}, not one value; {TRAIN_AGAIN}")
        value = float(found)
        if not least <= value <= most or (name == "level_discount" and value == 0):
            raise ValueError(f"its weight {name} is {value:g}; choose another with python -m cart_fairseq.tune")
    calibration = weights.get("calibration")
    if calibration is not None:
        _check_calibration(calibration)


def _check_calibration(found: Tensor) -> None:
    """Check the parameters of probabilities: factors of scores are not negative, the last one is a place in SCORINGS.

    Raises:
        ValueError: they are not.
    """
    if found.shape != (CALIBRATION_PARAMETERS,):
        raise ValueError(
            f"its weight calibration has shape {(*found.shape,)}; tune again with python -m cart_fairseq.tune"
        )
    slope, peak, *_, scoring = found.tolist()
    if min(slope, peak) < 0 or not 0 <= scoring <= len(SCORINGS) - 1:
        raise ValueError(f"its weight calibration is {found.tolist()}; tune again with python -m cart_fairseq.tune")


def section(cfg: Any, name: str) -> dict[str, Any]:
    """Return a section of the stored settings, as a dictionary.

    Raises:
        ValueError: there is none.
    """
    found = cfg.get(name) if isinstance(cfg, Mapping) else None
    if isinstance(found, argparse.Namespace):
        found = vars(found)
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"its settings have no section {name!r}; {TRAIN_AGAIN}")
    return dict(found)


def plain(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Scalar]:
    """Return the settings of these names, if they are there, without whatever else is stored.

    Raises:
        ValueError: one is not a text, a finite number, a truth value or None, or is a text that omegaconf would replace.
    """
    kept: dict[str, Scalar] = {}
    for name in names:
        if name not in settings:
            continue
        value = settings[name]
        number = isinstance(value, int | float) and abs(value) < 1 << 62  # neither NaN nor infinite
        text = isinstance(value, str) and "${" not in value
        if not (value is None or isinstance(value, bool) or number or text):
            raise ValueError(f"its setting {name} is {short(value)}; {TRAIN_AGAIN}")
        kept[name] = value
    return kept


def check_types(settings: Mapping[str, Scalar], defaults: Mapping[str, Any]) -> None:
    """Check that each setting has the type of its default; where that is None, a number.

    Raises:
        ValueError: it has not.
    """
    for name, default in defaults.items():
        value = settings.get(name, default)
        if isinstance(default, bool | str):
            fits = type(value) is type(default)
        elif isinstance(default, int):
            fits = type(value) is int
        else:
            fits = (value is None and default is None) or is_number(value)
        if not fits:
            raise ValueError(f"its setting {name} is {value!r}, not of type {type(default).__name__}; {TRAIN_AGAIN}")


def check_choices(settings: Mapping[str, Scalar], choices: Mapping[str, Collection[Scalar]]) -> None:
    """Check that each setting is one of its choices, if it is there.

    Raises:
        ValueError: it is not.
    """
    for name, allowed in choices.items():
        if name in settings and settings[name] not in allowed:
            raise ValueError(
                f"its setting {name} is {settings[name]!r}, not one of {', '.join(map(str, allowed))}; {TRAIN_AGAIN}"
            )


def check_sizes(
    cfg: NetworkConfig, dense_dim: int, media_positions: int, pretrained: bool, weights: Mapping[str, Tensor]
) -> None:
    """Check that a network of these settings is no larger than the weights, before memory is taken for it.

    Args:
        cfg: the network's settings, each of its type.
        dense_dim: width of the dense head; 0: none.
        media_positions: positions by which the decoder reads embeddings; 0: none.
        pretrained: whether the encoder comes from the data-bin, so that its sizes are not the settings'.
        weights: the checkpoint's weights.

    Raises:
        ValueError: a size is out of range, or the weights are too few for the sizes.
    """
    stacks = {"decoder": cfg.decoder} if pretrained else {"encoder": cfg.encoder, "decoder": cfg.decoder}
    for stack, sizes in stacks.items():
        for name in ("layers", "embed_dim", "ffn_embed_dim", "attention_heads"):
            most = MOST_LAYERS if name == "layers" else 1 << 20
            _check_range(f"{stack}_{name}", getattr(sizes, name), 1, most)
        if sizes.attention_heads > sizes.embed_dim:
            raise ValueError(f"its setting {stack}_attention_heads is {sizes.attention_heads}; {TRAIN_AGAIN}")
    _check_range("max_source_positions", cfg.max_source_positions, 1, MOST_POSITIONS)
    _check_range("dense_dim", dense_dim, 0, 1 << 20)
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        if not 0 <= getattr(cfg, name) < 1:
            raise ValueError(f"its setting {name} is {getattr(cfg, name)}; {TRAIN_AGAIN}")
    needed = 4 * dense_dim**2 + _least_weights(cfg.decoder, not cfg.no_decoder_ffn)
    if not pretrained:
        needed += _least_weights(cfg.encoder, True)
        gates = cfg.encoder.layers if "fine" in cfg.fusion else 0
        needed += 2 * gates * cfg.decoder.layers * cfg.decoder.embed_dim**2
        needed += 2 * media_positions * cfg.encoder.embed_dim**2
    refuse_larger(needed, weights)


def _least_weights(sizes: StackConfig, feeds_forward: bool) -> int:
    """Fewest weights of a stack: of one attention and, if there is one, the feed-forward network of each layer."""
    inner = 2 * sizes.ffn_embed_dim if feeds_forward else 0
    return sizes.layers * sizes.embed_dim * (4 * sizes.embed_dim + inner)


def check_rqvae_sizes(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Check that an RQ-VAE of these settings is no larger than the weights.

    Raises:
        ValueError: a size is out of range, or the weights are too few for the sizes.
    """
    sizes = [settings[name] for name in ("rqvae_codebooks", "rqvae_codebook_size", "rqvae_latent_dim")]
    for name, value, most in zip(("codebooks", "codebook_size", "latent_dim"), sizes, (MOST_LAYERS, 1 << 24, 1 << 20)):
        _check_range(f"rqvae_{name}", value, 1, most)
    refuse_larger(sizes[0] * sizes[1] * sizes[2], weights)


def refuse_larger(needed: int, weights: Mapping[str, Tensor]) -> None:
    """Refuse settings of a network that needs more weights than there are.

    Raises:
        ValueError: there are fewer.
    """
    there = sum(tensor.numel() for tensor in weights.values())
    if needed > there:
        raise ValueError(f"its settings are of a model of {needed:,} weights, but it holds {there:,}; {TRAIN_AGAIN}")


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"its setting {name} is {value}, not between {least} and {most:,}; {TRAIN_AGAIN}")
