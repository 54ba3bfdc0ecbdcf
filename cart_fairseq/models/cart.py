"""The architecture ``cart``: a small encoder-decoder that writes an item's identifier for a query (CART 3.4, Figure 3).

Encoder (:mod:`cart_fairseq.network.encoder`, or a pretrained one, :mod:`cart_fairseq.network.pretrained_encoder`) and decoder
(:mod:`cart_fairseq.network.decoder`).
"""

import argparse
import importlib.util
from typing import Any

import torch
from fairseq import utils
from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from torch import Tensor, nn

from cart_fairseq.catalogue.text_encoder import TextEncoder
from cart_fairseq.network.decoder import CARTDecoder
from cart_fairseq.network.dense_head import DenseHead, mean_state
from cart_fairseq.network.encoder import CARTEncoder
from cart_fairseq.network.fusion import FUSIONS, Fusion
from cart_fairseq.network.pretrained_encoder import PretrainedEncoder

TEXT_ENCODERS = ("auto", "scratch")


@register_model("cart")
class CARTModel(TransformerModelBase):
    """CART's encoder-decoder. A checkpoint remembers, and checks, which identifiers and vocabulary it belongs to."""

    def __init__(
        self,
        cfg: Any,
        encoder: CARTEncoder | PretrainedEncoder,
        decoder: CARTDecoder,
        fingerprint: bytes = b"",
        dense: DenseHead | None = None,
    ):
        super().__init__(cfg, encoder, decoder)
        self.dense = dense
        # as floats, which survive half precision and checkpoint averaging unchanged
        self.register_buffer("data_fingerprint", torch.tensor(list(fingerprint), dtype=torch.float32))
        pretrained = {*encoder.transformer.modules()} if isinstance(encoder, PretrainedEncoder) else set()
        # of symbols' scores in searches; cart_fairseq.tune sets it
        self.register_buffer("level_discount", torch.tensor(1.0))
        self.apply(lambda module: None if module in pretrained else _init_xavier(module))
        for module in self.modules():
            if isinstance(module, Fusion) and module.fine:
                module.reset_gates()
        if dense is not None:
            dense.reset_straight()

    @classmethod
    def add_args(cls, parser: Any) -> None:
        """Add the architecture's options to fairseq's parser; defaults come from the architecture functions."""
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
        parser.add_argument("--activation-fn", choices=utils.get_available_activation_fns(), help="(default: relu)")
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
        parser.add_argument(
            "--share-decoder-input-output-embed", action="store_true", help="tie the decoder's embeddings"
        )
        parser.add_argument(
            "--fusion",
            choices=FUSIONS,
            help="which encoder states the decoder reads: coarse (Eq. 2-3) and fine (Eq. 4-5) fusion of all layers, one "
            "of the two, or plain cross-attention to the last (default: coarse-fine)",
        )
        parser.add_argument(
            "--coarse-gating",
            choices=("sigmoid", "self"),
            help="sigma(C)/S as Eq. 3 reads, or C * sigma(C)/S, self-gating (default: sigmoid)",
        )
        parser.add_argument(
            "--fine-scaling",
            choices=("none", "sqrt"),
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

    @classmethod
    def build_model(cls, args: argparse.Namespace, task: Any) -> "CARTModel":
        """Build the model for a task that has dictionaries and a ``data_fingerprint``.

        Raises:
            ValueError: a number of layers is impossible, widths and heads do not fit, or something that an option needs is
                missing.
        """
        cart_architecture(args)
        for option in ("encoder_layers", "decoder_layers"):
            if getattr(args, option) < 1:
                raise ValueError(f"--{option.replace('_', '-')} is {getattr(args, option)}; at least 1 is needed")
        cfg = TransformerConfig.from_namespace(args)
        cfg.fusion, cfg.coarse_gating, cfg.fine_scaling = args.fusion, args.coarse_gating, args.fine_scaling
        cfg.max_target_positions = 64  # identifiers are short
        encoder, fingerprint = cls._build_text_encoder(cfg, args, task), task.data_fingerprint
        if isinstance(encoder, PretrainedEncoder):
            cfg.encoder.layers, cfg.encoder.embed_dim = encoder.layers, encoder.width
            fingerprint += encoder.digest
        decoder_tokens = cls.build_embedding(cfg, task.target_dictionary, cfg.decoder.embed_dim)
        decoder = CARTDecoder(cfg, task.target_dictionary, decoder_tokens)
        dense = None
        if args.dense_dim:
            items = task.data.dense_items
            if items is None:
                raise ValueError(
                    f"--dense-dim {args.dense_dim}: {task.data.directory} holds no embeddings of the items; binarise with "
                    "--embeddings"
                )
            given = task.cfg.dense_weight
            weight = 1.0 if given is None else given
            dropout = cfg.dropout if args.dense_dropout is None else args.dense_dropout
            dense = DenseHead(cfg.encoder.embed_dim, items.width, args.dense_dim, dropout, weight, items.text_dim)
        return cls(cfg, encoder, decoder, fingerprint, dense)

    @classmethod
    def _build_text_encoder(cls, cfg: Any, args: argparse.Namespace, task: Any) -> CARTEncoder | PretrainedEncoder:
        """The data-bin's encoder, unless it has none or another is asked for."""
        data = getattr(task, "data", None)  # benchmarks build models without one
        pretrained = TextEncoder.of(data) if data is not None and args.text_encoder == "auto" else None
        if pretrained is not None:
            return PretrainedEncoder(task.source_dictionary, pretrained, args.train_text_layers, args.text_state_cache)
        if args.train_text_layers:
            raise ValueError(
                f"--train-text-layers is {args.train_text_layers}, but there is no pretrained text encoder; binarise with "
                "--text-encoder, and leave out --text-encoder scratch here"
            )
        tokens = cls.build_embedding(cfg, task.source_dictionary, cfg.encoder.embed_dim)
        return CARTEncoder(cfg, task.source_dictionary, tokens)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        items: Tensor | None = None,
        item_features: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Logits (R, J, V) and extras; with ``item_features`` (B, D), and a dense head, its loss and the queries' ``mean_state``.

        Args:
            src_tokens: (B or more, T) int64; src_lengths: their lengths.
            prev_output_tokens: (R, J) int64, R a multiple of the number of queries.
            items: (B,) int64, the queries' items; -1 for a query that teaches the dense head nothing.
        """
        encoder_out = self.encoder(src_tokens, src_lengths)
        logits, extra = self.decoder(prev_output_tokens, encoder_out=encoder_out)
        if self.dense is not None and items is not None and item_features is not None:
            extra["contrastive"] = self.dense.loss(encoder_out, item_features, items)
            extra["mean_state"] = mean_state(encoder_out)[: len(items)]
        return logits, extra

    def upgrade_state_dict_named(self, state_dict: dict[str, Any], name: str) -> None:
        """Refuse a checkpoint that was trained on other identifiers, another vocabulary or another text encoder.

        Raises:
            ValueError: the fingerprints differ, or a dense head is not there as it should be.
        """
        saved, own = state_dict.get("data_fingerprint"), self.data_fingerprint
        if saved is None or saved.shape != own.shape or not torch.equal(saved.float().cpu(), own.float().cpu()):
            found, expected = (bytes(t.byte().tolist()).hex()[:12] if t is not None else "none" for t in (saved, own))
            raise ValueError(
                f"the checkpoint belongs to other identifiers, vocabulary or text encoder (fingerprint {found}, this data-bin "
                f"has {expected}); give the data-bin it was trained on, or train again in a new --save-dir"
            )
        if self.dense is not None and "dense.share_logit" not in state_dict:
            raise ValueError(
                "the checkpoint has no dense head, or one of an earlier version; train again in a new --save-dir"
            )
        state_dict.setdefault("level_discount", self.level_discount)  # checkpoints of before have none
        own_keys = self.state_dict().keys()
        for key in [key for key in state_dict if key.endswith(".key.bias") and key not in own_keys]:
            del state_dict[key]  # checkpoints of 0.1 have biases that change nothing
        super().upgrade_state_dict_named(state_dict, name)


def _init_xavier(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases, as CART's appendix C says; padding embeddings are zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.xavier_uniform_(module.weight)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        nn.init.zeros_(module.weight[module.padding_idx])


DEFAULTS = {
    "encoder_embed_dim": 512,
    "encoder_ffn_embed_dim": 2048,
    "encoder_layers": 3,
    "encoder_attention_heads": 8,
    "encoder_normalize_before": True,
    "encoder_learned_pos": False,
    "decoder_layers": 3,
    "decoder_attention_heads": 8,
    "decoder_normalize_before": True,
    "decoder_learned_pos": False,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "activation_fn": "relu",
    "share_decoder_input_output_embed": False,
    "max_source_positions": 1024,
    "fusion": "coarse-fine",
    "coarse_gating": "sigmoid",
    "fine_scaling": "none",
    "dense_dim": 0,
    "dense_dropout": None,
    "text_encoder": "auto",
    "train_text_layers": 0,
    "text_state_cache": 4.0,
}


@register_model_architecture("cart", "cart")
def cart_architecture(args: argparse.Namespace) -> None:
    """The paper's size: 3 + 3 layers (CART Table 5, F), width 512, 8 heads."""
    for name, value in DEFAULTS.items():
        setattr(args, name, getattr(args, name, value))
    _allow_reduced_precision(args)
    args.decoder_embed_dim = getattr(args, "decoder_embed_dim", args.encoder_embed_dim)
    args.decoder_ffn_embed_dim = getattr(args, "decoder_ffn_embed_dim", args.encoder_ffn_embed_dim)
    args.decoder_output_dim = args.decoder_input_dim = args.decoder_embed_dim


def _allow_reduced_precision(args: argparse.Namespace) -> None:
    """Let ``--bf16`` and ``--fp16`` train where fairseq does not expect them.

    fairseq takes ``--bf16`` for a TPU, which leaves out GPUs and CPUs; and its half-precision optimizers look for a CUDA
    device unless gradients stay unflattened.
    """
    if getattr(args, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
        args.tpu = False
    if getattr(args, "cpu", False) or not torch.cuda.is_available():
        args.fp16_no_flatten_grads = True


@register_model_architecture("cart", "cart_tiny")
def cart_tiny_architecture(args: argparse.Namespace) -> None:
    """For tests and first tries: 2 + 2 layers of width 64."""
    tiny = {
        "encoder_embed_dim": 64,
        "encoder_ffn_embed_dim": 128,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_layers": 2,
        "decoder_attention_heads": 4,
    }
    for name, value in tiny.items():
        setattr(args, name, getattr(args, name, value))
    cart_architecture(args)
