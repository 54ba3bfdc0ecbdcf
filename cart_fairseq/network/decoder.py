"""The identifier decoder: embeddings, CART's decoder layers, output projection (CART 3.4)."""

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
"""The cache of each layer, by layer number, kept between the steps of a search; empty before the first step."""


class CARTDecoder(nn.Module):
    """The identifier decoder.

    Args:
        cfg: sizes and options.
        embed_tokens: (V, C) embeddings of the identifier symbols.
    """

    version: Tensor

    def __init__(self, cfg: NetworkConfig, embed_tokens: nn.Embedding):
        super().__init__()
        self.register_buffer("version", torch.tensor([3.0]))  # fairseq's transformer checkpoints contain it
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
        """The memories that the layers attend to, each (T, B, C).

        They are Z, E_1 … E_S, or both, depending on the kind of fusion; without fusion, the last encoder state.
        """
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
        """Return logits (R, L or 1, V) and an empty dictionary; for the arguments see :meth:`extract_features`."""
        return self.output_projection(self.extract_features(prev_output_tokens, encoder_out, incremental_state)), {}

    def extract_features(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]],
        incremental_state: IncrementalState | None = None,
        slots: Tensor | None = None,
    ) -> Tensor:
        """Compute the features before the output projection.

        Args:
            prev_output_tokens: (R, L) int64. R may be a multiple of the number of queries; the beams or dropout passes
                of a query are then consecutive rows. With an incremental state only the last position is computed.
            encoder_out: the encoder's output for the queries.
            incremental_state: the layers' caches, changed in place.
            slots: (R,) int64, with an incremental state if queries have different numbers of rows: the flat index of
                each row in a grid of shape (rows per query, queries).

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
        # from the second step on, the layers' caches hold the keys and values
        memories = [] if incremental_state else self.memories(encoder_out)
        mask = encoder_out["encoder_padding_mask"][0]
        # on a GPU, mask.any() waits for the device and costs more than masking nothing
        padding = mask if mask.is_cuda or mask.any() else None
        for number, layer in enumerate(self.layers):
            cache = None if incremental_state is None else incremental_state.setdefault(number, {})
            x = layer(x, memories, padding, cache, slots)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        return x.transpose(0, 1)

    def project(self, features: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """Logits of the symbols ``begin`` to ``end`` (exclusive): features (R, C) -> (R, end - begin)."""
        return nn.functional.linear(features, self.output_projection.weight[begin:end])

    def reorder_beams(self, incremental_state: IncrementalState, new_order: Tensor) -> None:
        """Let row i continue row ``new_order[i]`` of the same query; keys and values of the memories do not move."""
        for cache in incremental_state.values():
            reorder(cache, PAST, new_order)

    def reorder_rows(self, incremental_state: IncrementalState, new_order: Tensor) -> None:
        """Let row i continue row ``new_order[i]``, for a search with one memory per row, such as fairseq's own."""
        for cache in incremental_state.values():
            reorder(cache, (*PAST, *MEMORY), new_order)

    def max_positions(self) -> int:
        """The length of the longest identifier, in symbols."""
        return TARGET_POSITIONS
