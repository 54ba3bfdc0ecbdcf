"""The architecture ``cart``: a small encoder-decoder that writes an item's identifier for a query (CART 3.4, Figure 3).

Encoder (:mod:`cart_fairseq.encoder`) and decoder share fairseq's embeddings, positions and output projection.
"""

import argparse
import importlib.util
from typing import Any

import torch
from fairseq import utils
from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import (
    TransformerConfig,
    TransformerDecoderBase,
    TransformerModelBase,
)
from torch import Tensor, nn

from cart_fairseq.decoder_layer import CARTDecoderLayer
from cart_fairseq.dropout import Dropout
from cart_fairseq.encoder import CARTEncoder
from cart_fairseq.fusion import FUSIONS, CoarseMemory, Fusion


class CARTDecoder(TransformerDecoderBase):
    """The decoder: embeddings and output projection are fairseq's, the layers are CART's."""

    def __init__(self, cfg: Any, dictionary: Any, embed_tokens: nn.Embedding):
        super().__init__(cfg, dictionary, embed_tokens)
        self.dropout_module = Dropout(cfg.dropout)
        self.fusion = cfg.fusion
        coarse = "coarse" in cfg.fusion
        self.coarse_memory = CoarseMemory(cfg.encoder.layers, cfg.encoder.embed_dim) if coarse else None

    def build_decoder_layer(self, cfg: Any, no_encoder_attn: bool = False) -> CARTDecoderLayer:
        """One of the decoder's layers."""
        return CARTDecoderLayer(cfg)

    def memories(self, encoder_out: dict[str, list[Tensor]]) -> list[Tensor]:
        """What the layers attend to, each (T, B, C): Z and E_1 … E_S as the fusion needs them, else the last state."""
        if self.fusion == "none":
            return encoder_out["encoder_out"]
        states = encoder_out["encoder_states"]
        if self.coarse_memory is None:
            return states
        coarse = self.coarse_memory(states)
        return [coarse] if self.fusion == "coarse" else [coarse, *states]

    def extract_features(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]],
        incremental_state: dict[str, Any] | None = None,
        full_context_alignment: bool = False,
        alignment_layer: int | None = None,
        alignment_heads: int | None = None,
        slots: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Features before the output projection.

        Args:
            prev_output_tokens: (R, L) int64; R may be a multiple of the number of queries, whose beams or dropout passes
                are consecutive rows. With an incremental state only the last position is computed.
            slots: (R,) int64 with an incremental state, where queries have different numbers of rows: which place of
                the grid (rows a query, queries) each row takes.

        Returns:
            (R, L or 1, C) features and fairseq's dictionary of extras.
        """
        positions = None
        if self.embed_positions is not None:
            positions = self.embed_positions(prev_output_tokens, incremental_state=incremental_state)
        if incremental_state is not None:
            prev_output_tokens = prev_output_tokens[:, -1:]
            positions = positions[:, -1:] if positions is not None else None
        x = self.embed_scale * self.embed_tokens(prev_output_tokens)
        if positions is not None:
            x = x + positions
        x = self.dropout_module(x).transpose(0, 1).contiguous()
        # the layers keep keys and values themselves from the second step on
        first = incremental_state is None or not incremental_state
        memories = self.memories(encoder_out) if first else []
        mask = encoder_out["encoder_padding_mask"][0]
        # looking whether there is any costs a GPU more than masking nothing
        padding = mask if mask.is_cuda or mask.any() else None
        for layer in self.layers:
            x = layer(x, memories, padding, incremental_state, slots)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        return x.transpose(0, 1), {"attn": [None], "inner_states": None}

    def project(self, features: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """Logits of the symbols from ``begin`` to ``end``: features (R, C) -> (R, end - begin)."""
        return nn.functional.linear(features, self.output_projection.weight[begin:end])

    def reorder_beams(self, incremental_state: dict[str, Any], new_order: Tensor) -> None:
        """Let row i continue row ``new_order[i]`` of the same query; the queries' memories stay where they are."""
        for layer in self.layers:
            layer.self_attn.reorder_incremental_state(incremental_state, new_order)


@register_model("cart")
class CARTModel(TransformerModelBase):
    """CART's encoder-decoder. A checkpoint remembers, and checks, which identifiers and vocabulary it belongs to."""

    def __init__(self, cfg: Any, encoder: CARTEncoder, decoder: CARTDecoder, fingerprint: bytes = b""):
        super().__init__(cfg, encoder, decoder)
        # as floats, which survive half precision and checkpoint averaging unchanged
        self.register_buffer("data_fingerprint", torch.tensor(list(fingerprint), dtype=torch.float32))
        self.apply(_init_xavier)
        for module in self.modules():
            if isinstance(module, Fusion) and module.fine:
                module.reset_gates()

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

    @classmethod
    def build_model(cls, args: argparse.Namespace, task: Any) -> "CARTModel":
        """Build the model for a task that has dictionaries and a ``data_fingerprint``.

        Raises:
            ValueError: a number of layers is below 1, or widths and heads do not fit.
        """
        cart_architecture(args)
        for option in ("encoder_layers", "decoder_layers"):
            if getattr(args, option) < 1:
                raise ValueError(f"--{option.replace('_', '-')} is {getattr(args, option)}; at least 1 is needed")
        cfg = TransformerConfig.from_namespace(args)
        cfg.fusion, cfg.coarse_gating, cfg.fine_scaling = args.fusion, args.coarse_gating, args.fine_scaling
        cfg.max_target_positions = 64  # identifiers are short
        encoder_tokens = cls.build_embedding(cfg, task.source_dictionary, cfg.encoder.embed_dim)
        decoder_tokens = cls.build_embedding(cfg, task.target_dictionary, cfg.decoder.embed_dim)
        encoder = CARTEncoder(cfg, task.source_dictionary, encoder_tokens)
        decoder = CARTDecoder(cfg, task.target_dictionary, decoder_tokens)
        return cls(cfg, encoder, decoder, task.data_fingerprint)

    def upgrade_state_dict_named(self, state_dict: dict[str, Any], name: str) -> None:
        """Refuse a checkpoint that was trained on other identifiers or another vocabulary.

        Raises:
            ValueError: the fingerprints differ.
        """
        saved, own = state_dict.get("data_fingerprint"), self.data_fingerprint
        if saved is None or saved.shape != own.shape or not torch.equal(saved.float().cpu(), own.float().cpu()):
            found, expected = (bytes(t.byte().tolist()).hex()[:12] if t is not None else "none" for t in (saved, own))
            raise ValueError(
                f"the checkpoint belongs to other identifiers or another vocabulary (fingerprint {found}, this data-bin "
                f"has {expected}); give the data-bin it was trained on, or train again in a new --save-dir"
            )
        for key in [key for key in state_dict if key.endswith(".key.bias")]:
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
