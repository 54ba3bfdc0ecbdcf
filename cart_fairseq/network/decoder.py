"""The decoder that writes an identifier: fairseq's embeddings and output projection around CART's layers (CART 3.4)."""

from typing import Any

from fairseq.models.transformer import TransformerDecoderBase
from torch import Tensor, nn

from cart_fairseq.network.decoder_layer import CARTDecoderLayer
from cart_fairseq.network.dropout import Dropout
from cart_fairseq.network.fusion import CoarseMemory


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
