"""The flags of the architecture ``cart``, their defaults, and the network configuration made from them."""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

from fairseq.models.transformer import TransformerConfig

from cart_fairseq.network.activations import ACTIVATIONS
from cart_fairseq.network.config import (
    CHOICES,
    COARSE_GATINGS,
    ENCODER_STATES,
    FINE_SCALINGS,
    FUSION_ATTENTIONS,
    FUSION_BIASES,
    FUSION_QUERIES,
    FUSIONS,
    NetworkConfig,
    StackConfig,
)

TEXT_ENCODERS = ("auto", "scratch")
STACKS = ("encoder", "decoder")
OPTIONS = [field.name for field in dataclasses.fields(NetworkConfig) if field.name not in STACKS]
SIZES = [field.name for field in dataclasses.fields(StackConfig)]
NETWORK = [*OPTIONS, *(f"{stack}_{name}" for stack in STACKS for name in SIZES)]
"""The flags of encoder and decoder, which :func:`network_config` reads."""
DEFAULTS: dict[str, Any] = {
    **{f"{stack}_{name}": getattr(StackConfig(), name) for stack in STACKS for name in SIZES},
    **{name: getattr(NetworkConfig(), name) for name in OPTIONS},
    "dense_dim": 0,
    "dense_dropout": None,
    "dense_words": False,
    "media_positions": 0,
    "text_encoder": "auto",
    "train_text_layers": 0,
    "text_state_cache": 4.0,
}
"""Defaults of the flags, except the decoder's widths, whose defaults are the encoder's (:func:`set_defaults`)."""
FOLLOWING = ("embed_dim", "ffn_embed_dim")
MOST_MEDIA_POSITIONS = 256


def truth_value(text: str) -> bool:
    """A truth value, as a flag's text.

    >>> truth_value("True"), truth_value("0")
    (True, False)
    """
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return text.lower() in ("true", "1")


def add_flags(parser: Any) -> None:
    """Add the architecture's flags to fairseq's parser; :func:`set_defaults` sets the defaults afterwards."""
    _add_sizes(parser)
    _add_text_encoder(parser)
    _add_fusion(parser)
    _add_readings(parser)
    _add_dense_head(parser)
    _add_reader(parser)


def _add_sizes(parser: Any) -> None:
    """Add sizes and dropout of encoder and decoder."""
    boolean: dict[str, Any] = {"type": truth_value, "nargs": "?", "const": True, "metavar": "BOOL"}
    for side, width, inner in (("encoder", "512", "2048"), ("decoder", "the encoder's", "the encoder's")):
        parser.add_argument(f"--{side}-layers", type=int, metavar="N", help=f"{side} layers (default: 3)")
        parser.add_argument(f"--{side}-embed-dim", type=int, metavar="N", help=f"{side} width (default: {width})")
        parser.add_argument(
            f"--{side}-ffn-embed-dim", type=int, metavar="N", help=f"{side} feed-forward width (default: {inner})"
        )
        parser.add_argument(
            f"--{side}-attention-heads", type=int, metavar="N", help=f"{side} attention heads (default: 8)"
        )
        parser.add_argument(
            f"--{side}-normalize-before", help=f"layer norm before each {side} block (default: True)", **boolean
        )
        parser.add_argument(
            f"--{side}-learned-pos", help=f"learned positional embeddings in the {side} (default: False)", **boolean
        )
    parser.add_argument("--activation-fn", choices=[*ACTIVATIONS], help="activation function (default: relu)")
    parser.add_argument("--dropout", type=float, metavar="P", help="dropout probability (default: 0.1)")
    parser.add_argument(
        "--attention-dropout", type=float, metavar="P", help="dropout probability of attention weights (default: 0)"
    )
    parser.add_argument(
        "--activation-dropout",
        type=float,
        metavar="P",
        help="dropout probability inside feed-forward blocks (default: 0)",
    )
    parser.add_argument("--max-source-positions", type=int, metavar="N", help="longest query (default: 1024)")
    parser.add_argument(
        "--share-decoder-input-output-embed",
        action="store_true",
        help="use the decoder's embeddings as its output projection (default: False)",
    )


def _add_text_encoder(parser: Any) -> None:
    """Add the flags of a pretrained text encoder."""
    parser.add_argument(
        "--text-encoder",
        choices=TEXT_ENCODERS,
        help="auto: the data-bin's pretrained encoder if it holds one (binarize --text-encoder); the --encoder-… flags "
        "do not change it. scratch: a new encoder for the same tokens (default: auto)",
    )
    parser.add_argument(
        "--train-text-layers",
        type=int,
        metavar="N",
        help="number of upper layers of a pretrained text encoder to train; 0: none, -1: all and the embeddings "
        "(default: 0)",
    )
    parser.add_argument(
        "--text-state-cache",
        type=float,
        metavar="GIB",
        help="memory in GiB that caches a frozen text encoder's states, so that only the first epoch computes them; "
        "used in training on a CPU; 0: no cache (default: 4)",
    )


def _add_fusion(parser: Any) -> None:
    """Add the options of the fusion."""
    parser.add_argument(
        "--fusion",
        choices=FUSIONS,
        help="coarse (Eq. 2-3) and fine (Eq. 4-5) fusion of all encoder layers, one of the two, or none: plain "
        "cross-attention to the last layer (default: coarse-fine)",
    )
    parser.add_argument(
        "--coarse-gating",
        choices=COARSE_GATINGS,
        help="sigmoid: sigma(C)/S as in Eq. 3; self: C * sigma(C)/S (default: sigmoid)",
    )
    parser.add_argument(
        "--fine-scaling",
        choices=FINE_SCALINGS,
        help="none: the sum of Eq. 4; sqrt: the sum divided by sqrt(S) (default: none)",
    )


def _add_readings(parser: Any) -> None:
    """Add the options for points of the model that the paper leaves open."""
    parser.add_argument(
        "--fusion-attention",
        choices=FUSION_ATTENTIONS,
        help="shared: one cross-attention for all memories, the single C of Eq. 3-5; separate: one for each memory, which "
        '"interact independently" (§3.4.2), only with the fine branch (default: shared)',
    )
    parser.add_argument(
        "--fusion-bias",
        choices=FUSION_BIASES,
        help="single: one bias of the gates, as Eq. 5 prints it (b), only with the fine branch; per-state: one for each "
        "encoder layer, as in earlier checkpoints (default: per-state)",
    )
    parser.add_argument(
        "--fusion-query",
        choices=FUSION_QUERIES,
        help='the "decoder input Y" of §3.4.1; decoder-input: the layer\'s input; after-self-attention: the same '
        "after the self-attention (default: after-self-attention)",
    )
    parser.add_argument(
        "--encoder-states",
        choices=ENCODER_STATES,
        help='the "output of an encoder with S layers" (§3.4); normed: each with the final layer norm of a pre-norm '
        "encoder; raw: an encoder without that norm (default: normed)",
    )
    parser.add_argument(
        "--no-decoder-ffn",
        action="store_true",
        help='no feed-forward network in the decoder layers: the sum of both branches is the "input to the next decoder '
        'layer" (§3.4.2) (default: False)',
    )


def _add_dense_head(parser: Any) -> None:
    """Add the options of the dense head."""
    parser.add_argument(
        "--dense-dim",
        type=int,
        metavar="D",
        help="width of a dense head that is trained jointly, guides the beam search and ranks its items; the data-bin must "
        "hold embeddings (binarize --embeddings); 0: no dense head, as in the paper (default: 0)",
    )
    parser.add_argument(
        "--dense-dropout", type=float, metavar="P", help="dropout probability of the dense head (default: --dropout)"
    )
    parser.add_argument(
        "--dense-words",
        action="store_true",
        help="the dense head also reads the query's symbols without their order, as a sum of vectors that begin as a "
        "regression to the captions' features, where the embeddings were joined with captions (default: False)",
    )


def _add_reader(parser: Any) -> None:
    """Add the option of reading embeddings."""
    parser.add_argument(
        "--media-positions",
        type=int,
        metavar="P",
        help="positions in front of the words by which the decoder reads an item's embedding, for queries by item, embedding "
        "or media file; a quarter more examples are trained on; needs --dense-dim; 0: such queries are ranked by the dense "
        "score alone (default: 0)",
    )


def set_defaults(args: argparse.Namespace) -> None:
    """Set the flags that were not given to their defaults, in place; the decoder's widths default to the encoder's."""
    for name, value in DEFAULTS.items():
        if name not in {f"decoder_{following}" for following in FOLLOWING}:
            setattr(args, name, getattr(args, name, value))
    for name in FOLLOWING:
        setattr(args, f"decoder_{name}", getattr(args, f"decoder_{name}", getattr(args, f"encoder_{name}")))


def network_config(args: argparse.Namespace) -> NetworkConfig:
    """Make the network configuration from a complete set of flags.

    Raises:
        ValueError: a size is below 1, a dropout is no probability, a choice is unknown or would have no effect, or a flag is set that
            only fairseq's own transformers have.
    """
    for name, default in foreign_flags():
        value = getattr(args, name, default)
        if value != default and value is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is {value}; only fairseq's own transformers have this flag, not the "
                "architecture cart: leave it out"
            )
    _check_numbers(args)
    for name, known in CHOICES.items():
        value = getattr(args, name)
        if value not in known:
            raise ValueError(f"--{name.replace('_', '-')} is {value!r}; it must be one of {', '.join(known)}")
    _check_effects(args)
    stacks: dict[str, Any] = {
        stack: StackConfig(**{name: getattr(args, f"{stack}_{name}") for name in SIZES}) for stack in STACKS
    }
    options: dict[str, Any] = {name: getattr(args, name) for name in OPTIONS}
    return NetworkConfig(**stacks, **options)


def _check_numbers(args: argparse.Namespace) -> None:
    """Refuse sizes and dropouts that no network has.

    Raises:
        ValueError: such a flag is given.
    """
    for stack in STACKS:
        for name in ("layers", "embed_dim", "ffn_embed_dim", "attention_heads"):
            value = getattr(args, f"{stack}_{name}")
            if value < 1:
                raise ValueError(f"--{stack}-{name.replace('_', '-')} is {value}; at least 1 is needed")
    if not 0 <= args.media_positions <= MOST_MEDIA_POSITIONS:
        raise ValueError(f"--media-positions is {args.media_positions}; it must be from 0 to {MOST_MEDIA_POSITIONS}")
    if args.media_positions and not args.dense_dim:
        raise ValueError(
            f"--media-positions is {args.media_positions}, but without a dense head single texts alone are answered; give "
            "--dense-dim, or leave it out"
        )
    if args.dense_words and not args.dense_dim:
        raise ValueError("--dense-words is given, but there is no dense head; give --dense-dim, or leave it out")
    for name in ("dropout", "attention_dropout", "activation_dropout", "dense_dropout"):
        value = getattr(args, name, None)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be from 0 to 1")


def _check_effects(args: argparse.Namespace) -> None:
    """Refuse readings of the paper that another flag makes meaningless.

    Raises:
        ValueError: such a flag is given.
    """
    for name, default in (("fusion_attention", "shared"), ("fusion_bias", "per-state")):
        value = getattr(args, name)
        if value != default and "fine" not in args.fusion:
            raise ValueError(
                f"--{name.replace('_', '-')} is {value}, which has no effect with --fusion {args.fusion}; leave it out, "
                "or give --fusion coarse-fine or fine"
            )
    if args.encoder_states == "raw" and not args.encoder_normalize_before:
        raise ValueError(
            "--encoder-states is raw, but a post-norm encoder has no final layer norm; leave it out, or give "
            "--encoder-normalize-before True"
        )


def foreign_flags() -> Iterator[tuple[str, Any]]:
    """Names and defaults of the flags that fairseq's transformers have and ``cart`` has not."""
    derived = {"max_target_positions", "decoder_input_dim", "decoder_output_dim"}  # earlier checkpoints contain them
    for field in dataclasses.fields(TransformerConfig):
        default = getattr(TransformerConfig(), field.name)
        if dataclasses.is_dataclass(default):
            inner = [(f"{field.name}_{sub.name}", getattr(default, sub.name)) for sub in dataclasses.fields(default)]
        else:
            inner = [(field.name, default)]
        for name, value in inner:
            if name not in DEFAULTS and name not in derived and "_name" not in name:
                yield name, value
