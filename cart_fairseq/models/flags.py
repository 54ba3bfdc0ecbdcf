"""Flags of the architecture ``cart``, their defaults, and the configuration that they make."""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

from fairseq import utils
from fairseq.models.transformer import TransformerConfig

from cart_fairseq.network.activations import ACTIVATIONS
from cart_fairseq.network.config import COARSE_GATINGS, FINE_SCALINGS, FUSIONS, NetworkConfig, StackConfig

TEXT_ENCODERS = ("auto", "scratch")
STACKS = ("encoder", "decoder")
OPTIONS = [field.name for field in dataclasses.fields(NetworkConfig) if field.name not in STACKS]
SIZES = [field.name for field in dataclasses.fields(StackConfig)]
DEFAULTS: dict[str, Any] = {
    **{f"{stack}_{name}": getattr(StackConfig(), name) for stack in STACKS for name in SIZES},
    **{name: getattr(NetworkConfig(), name) for name in OPTIONS},
    "dense_dim": 0,
    "dense_dropout": None,
    "text_encoder": "auto",
    "train_text_layers": 0,
    "text_state_cache": 4.0,
}
"""What a flag is unless it is given; the decoder's two widths are the encoder's (:func:`set_defaults`)."""
FOLLOWING = ("embed_dim", "ffn_embed_dim")


def add_flags(parser: Any) -> None:
    """Add the architecture's flags to fairseq's parser; their defaults come from the architecture functions."""
    boolean: dict[str, Any] = {"type": utils.eval_bool, "nargs": "?", "const": True, "metavar": "BOOL"}
    for side in ("encoder", "decoder"):
        parser.add_argument(f"--{side}-layers", type=int, metavar="N", help=f"{side} layers (default: 3)")
        parser.add_argument(f"--{side}-embed-dim", type=int, metavar="N", help=f"{side} width (default: 512)")
        parser.add_argument(f"--{side}-ffn-embed-dim", type=int, metavar="N", help="feed-forward width (2048)")
        parser.add_argument(f"--{side}-attention-heads", type=int, metavar="N", help="attention heads (8)")
        parser.add_argument(
            f"--{side}-normalize-before", help=f"layer norm before each {side} block (default: True)", **boolean
        )
        parser.add_argument(f"--{side}-learned-pos", help="learned positional embeddings (False)", **boolean)
    parser.add_argument("--activation-fn", choices=[*ACTIVATIONS], help="(default: relu)")
    parser.add_argument("--dropout", type=float, metavar="P", help="dropout probability (default: 0.1)")
    parser.add_argument("--attention-dropout", type=float, metavar="P", help="of attention weights (default: 0)")
    parser.add_argument("--activation-dropout", type=float, metavar="P", help="inside feed-forward (default: 0)")
    parser.add_argument("--max-source-positions", type=int, metavar="N", help="longest query (default: 1024)")
    parser.add_argument(
        "--text-encoder",
        choices=TEXT_ENCODERS,
        help="auto: the data-bin's pretrained encoder, where it holds one (binarize --text-encoder), whatever --encoder-… "
        "say; its width is its own, the decoder's --decoder-embed-dim. scratch: one trained from nothing on the same "
        "tokens (default: auto)",
    )
    parser.add_argument(
        "--train-text-layers",
        type=int,
        metavar="N",
        help="upper layers of a pretrained text encoder that learn too; 0: it stays as it is, -1: all of it (default: 0)",
    )
    parser.add_argument(
        "--text-state-cache",
        type=float,
        metavar="GIB",
        help="memory for what a frozen text encoder says of the training queries, so that it reads each once; used where "
        "training runs on a CPU, 0: none (default: 4)",
    )
    parser.add_argument("--share-decoder-input-output-embed", action="store_true", help="tie the decoder's embeddings")
    parser.add_argument(
        "--fusion",
        choices=FUSIONS,
        help="which encoder states the decoder reads: coarse (Eq. 2-3) and fine (Eq. 4-5) fusion of all layers, one "
        "of the two, or plain cross-attention to the last (default: coarse-fine)",
    )
    parser.add_argument(
        "--coarse-gating",
        choices=COARSE_GATINGS,
        help="sigma(C)/S as Eq. 3 reads, or C * sigma(C)/S, self-gating (default: sigmoid)",
    )
    parser.add_argument(
        "--fine-scaling",
        choices=FINE_SCALINGS,
        help="sum the fine branch as Eq. 4 reads, or divide it by sqrt(S) (default: none)",
    )
    parser.add_argument(
        "--dense-dim",
        type=int,
        metavar="D",
        help="width of a dense head that learns beside the identifiers and orders the beam; the data-bin must hold "
        "embeddings (binarize --embeddings); 0: none, as in the paper (default: 0)",
    )
    parser.add_argument("--dense-dropout", type=float, metavar="P", help="of the dense head (default: --dropout)")


def set_defaults(args: argparse.Namespace) -> None:
    """Give every flag that was not given its default, in place; widths of the decoder are the encoder's."""
    for name, value in DEFAULTS.items():
        if name not in {f"decoder_{following}" for following in FOLLOWING}:
            setattr(args, name, getattr(args, name, value))
    for name in FOLLOWING:
        setattr(args, f"decoder_{name}", getattr(args, f"decoder_{name}", getattr(args, f"encoder_{name}")))


def network_config(args: argparse.Namespace) -> NetworkConfig:
    """The configuration that complete flags describe.

    Raises:
        ValueError: a number of layers is below 1, a choice is unknown, or a flag is set that only fairseq's own
            transformers have.
    """
    for name, default in _foreign_flags():
        value = getattr(args, name, default)
        if value != default and value is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is {value}; it belongs to fairseq's own transformers, the architecture cart "
                "has nothing like it: leave it out"
            )
    for stack in STACKS:
        layers = getattr(args, f"{stack}_layers")
        if layers < 1:
            raise ValueError(f"--{stack}-layers is {layers}; at least 1 is needed")
    choices = {
        "activation_fn": ACTIVATIONS,
        "fusion": FUSIONS,
        "coarse_gating": COARSE_GATINGS,
        "fine_scaling": FINE_SCALINGS,
    }
    for name, known in choices.items():
        value = getattr(args, name)
        if value not in known:
            raise ValueError(f"--{name.replace('_', '-')} is {value!r}; it must be one of {', '.join(known)}")
    stacks: dict[str, Any] = {
        stack: StackConfig(**{name: getattr(args, f"{stack}_{name}") for name in SIZES}) for stack in STACKS
    }
    options: dict[str, Any] = {name: getattr(args, name) for name in OPTIONS}
    return NetworkConfig(**stacks, **options)


def _foreign_flags() -> Iterator[tuple[str, Any]]:
    """Names and defaults of what fairseq's transformers can be told and ours cannot."""
    derived = {"max_target_positions", "decoder_input_dim", "decoder_output_dim"}  # checkpoints of before hold them
    for field in dataclasses.fields(TransformerConfig):
        default = getattr(TransformerConfig(), field.name)
        if dataclasses.is_dataclass(default):
            inner = [(f"{field.name}_{sub.name}", getattr(default, sub.name)) for sub in dataclasses.fields(default)]
        else:
            inner = [(field.name, default)]
        for name, value in inner:
            if name not in DEFAULTS and name not in derived and "_name" not in name:
                yield name, value
