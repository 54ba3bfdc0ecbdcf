"""The decoder that writes an identifier: embeddings, CART's layers, output projection (CART 3.4)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from cart_fairseq.network.config import TARGET_POSITIONS, NetworkConfig
from cart_fairseq.network.decoder_layer import MEMORY, PAST, Cache, CARTDecoderLayer, reorder
from cart_fairseq.network.dropout import Dropout
from cart_fairseq.network.embeddings import position_embedding
from cart_fairseq.network.fusion import CoarseMemory

IncrementalState = dict[int, Cache]
"""What each layer keeps between the steps of a search; empty before the first."""


class CARTDecoder(nn.Module):
    """The decoder.

    Args:
        cfg: sizes and options.
        embed_tokens: (V, C) embeddings of the identifier symbols.
    """

    version: Tensor

    def __init__(self, cfg: NetworkConfig, embed_tokens: nn.Embedding):
        super().__init__()
        self.register_buffer("version", torch.tensor([3.0]))  # checkpoints of fairseq's transformers have it
        symbols, width = embed_tokens.weight.shape
        assert embed_tokens.padding_idx is not None
        self.embed_scale = math.sqrt(width)
        self.embed_tokens = embed_tokens
        self.embed_positions = position_embedding(
            cfg.decoder.learned_pos, TARGET_POSITIONS, width, embed_tokens.padding_idx
        )
        self.layers = nn.ModuleList(CARTDecoderLayer(cfg) for _ in range(cfg.decoder.layers))
        self.layer_norm = nn.LayerNorm(width) if cfg.decoder.normalize_before else None
        self.output_projection = nn.Linear(width, symbols, bias=False)
        if cfg.share_decoder_input_output_embed:
            self.output_projection.weight = embed_tokens.weight
        else:
            nn.init.normal_(self.output_projection.weight, mean=0, std=width**-0.5)
        self.dropout_module = Dropout(cfg.dropout)
        self.fusion = cfg.fusion
        coarse = "coarse" in cfg.fusion
        self.coarse_memory = CoarseMemory(cfg.encoder.layers, cfg.encoder.embed_dim) if coarse else None

    def memories(self, encoder_out: dict[str, list[Tensor]]) -> list[Tensor]:
        """What the layers attend to, each (T, B, C): Z and E_1 … E_S as the fusion needs them, else the last state."""
        if self.fusion == "none":
            return encoder_out["encoder_out"]
        states = encoder_out["encoder_states"]
        if self.coarse_memory is None:
            return states
        coarse = self.coarse_memory(states)
        return [coarse] if self.fusion == "coarse" else [coarse, *states]

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]],
        incremental_state: IncrementalState | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Logits (R, L or 1, V) and an empty dictionary of extras; arguments as in :meth:`extract_features`."""
        return self.output_projection(self.extract_features(prev_output_tokens, encoder_out, incremental_state)), {}

    def extract_features(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]],
        incremental_state: IncrementalState | None = None,
        slots: Tensor | None = None,
    ) -> Tensor:
        """Features before the output projection.

        Args:
            prev_output_tokens: (R, L) int64; R may be a multiple of the number of queries, whose beams or dropout passes
                are consecutive rows. With an incremental state only the last position is computed.
            encoder_out: what the encoder returned for the queries.
            incremental_state: what the layers keep between steps, changed in place.
            slots: (R,) int64 with an incremental state, where queries have different numbers of rows: which place of
                the grid (rows a query, queries) each row takes.

        Returns:
            (R, L or 1, C) features.
        """
        if incremental_state is None:
            positions = self.embed_positions(prev_output_tokens)
        else:
            positions = self.embed_positions.last(prev_output_tokens)
            prev_output_tokens = prev_output_tokens[:, -1:]
        x = self.embed_scale * self.embed_tokens(prev_output_tokens) + positions
        x = self.dropout_module(x).transpose(0, 1).contiguous()
        # the layers keep keys and values themselves from the second step on
        memories = [] if incremental_state else self.memories(encoder_out)
        mask = encoder_out["encoder_padding_mask"][0]
        # looking whether there is any costs a GPU more than masking nothing
        padding = mask if mask.is_cuda or mask.any() else None
        for number, layer in enumerate(self.layers):
            cache = None if incremental_state is None else incremental_state.setdefault(number, {})
            x = layer(x, memories, padding, cache, slots)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        return x.transpose(0, 1)

    def project(self, features: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """Logits of the symbols from ``begin`` to ``end``: features (R, C) -> (R, end - begin)."""
        return nn.functional.linear(features, self.output_projection.weight[begin:end])

    def reorder_beams(self, incremental_state: IncrementalState, new_order: Tensor) -> None:
        """Let row i continue row ``new_order[i]`` of the same query; the queries' memories stay where they are."""
        for cache in incremental_state.values():
            reorder(cache, PAST, new_order)

    def reorder_rows(self, incremental_state: IncrementalState, new_order: Tensor) -> None:
        """As :meth:`reorder_beams` for a search that keeps one memory a row, as fairseq's own does."""
        for cache in incremental_state.values():
            reorder(cache, (*PAST, *MEMORY), new_order)

    def max_positions(self) -> int:
        """The longest identifier, in symbols."""
        return TARGET_POSITIONS
