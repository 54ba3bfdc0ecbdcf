"""A decoder layer of CART: causal self-attention, fusion, feed-forward (CART 3.4, Figure 3)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from fairseq import utils
from fairseq.incremental_decoding_utils import FairseqIncrementalState
from fairseq.modules import LayerNorm
from torch import Tensor, nn

from cart_fairseq.network.attention import Attention
from cart_fairseq.network.dropout import Dropout
from cart_fairseq.network.fusion import Fusion


class SelfAttention(FairseqIncrementalState, Attention):
    """Causal self-attention that keeps the keys and values of earlier positions in incremental decoding."""

    get_incremental_state: Callable[..., Any]
    set_incremental_state: Callable[..., Any]

    def forward(self, x: Tensor, incremental_state: dict[str, Any] | None) -> Tensor:
        """Attend from every position to itself and the earlier ones; x and the result are (L, R, embed_dim)."""
        key, value = self.project(x.unsqueeze(0))
        if incremental_state is None:
            length = len(x)
            future = torch.ones(1, length, length, dtype=torch.bool, device=x.device).triu(1)
            return self.attend(x, key, value, future)[0]
        saved = self.get_incremental_state(incremental_state, "past")
        if saved is not None:
            key = torch.cat([saved["key"], key], dim=1)
            value = torch.cat([saved["value"], value], dim=1)
        self.set_incremental_state(incremental_state, "past", {"key": key, "value": value})
        return self.attend(x, key, value)[0]

    def reorder_incremental_state(self, incremental_state: dict[str, Any], new_order: Tensor) -> None:
        """Let row i continue what row ``new_order[i]`` began."""
        saved = self.get_incremental_state(incremental_state, "past")
        if saved is not None:
            reordered = {name: tensor.index_select(2, new_order) for name, tensor in saved.items()}
            self.set_incremental_state(incremental_state, "past", reordered)


class FusionAttention(FairseqIncrementalState, Fusion):
    """Fusion over all encoder states, whose keys and values are computed once per query in incremental decoding.

    The decoder may run several consecutive rows for each query, beams or dropout passes: they share its memory.
    """

    get_incremental_state: Callable[..., Any]
    set_incremental_state: Callable[..., Any]

    def forward(
        self,
        query: Tensor,
        memories: Sequence[Tensor],
        padding: Tensor | None,
        incremental_state: dict[str, Any] | None,
        slots: Tensor | None = None,
    ) -> Tensor:
        """Fuse what the rows of ``query`` (L, R, C) find in ``memories``, each (T, B, C), R a multiple of B.

        ``padding`` is (B, T), True where the source is padding, or None. With ``slots``, as
        :meth:`~cart_fairseq.network.fusion.Attention.attend` has them, each query has as many rows as it has slots.
        """
        hidden = None if padding is None else padding[:, None, :]
        if incremental_state is None:
            grouped = _group(query, memories[0].size(1))
            context = self.attention.attend_once(grouped, memories, hidden)
            return _ungroup(self.fuse(grouped, context), query.size(1))
        saved = self.get_incremental_state(incremental_state, "memory")
        if saved is None:
            key, value = self.attention.project(torch.stack([*memories]))
            self.set_incremental_state(incremental_state, "memory", {"key": key, "value": value})
        else:
            key, value = saved["key"], saved["value"]
        if slots is not None:
            return self.fuse(query, self.attention.attend(query, key, value, hidden, slots))
        grouped = _group(query, key.size(2))
        return _ungroup(self.fuse(grouped, self.attention.attend(grouped, key, value, hidden)), query.size(1))

    def reorder_incremental_state(self, incremental_state: dict[str, Any], new_order: Tensor) -> None:
        """Follow a generator that keeps one memory a row, as fairseq's own does."""
        saved = self.get_incremental_state(incremental_state, "memory")
        if saved is not None:
            reordered = {name: tensor.index_select(2, new_order) for name, tensor in saved.items()}
            self.set_incremental_state(incremental_state, "memory", reordered)


def _group(query: Tensor, batch: int) -> Tensor:
    """(L, R, C) -> (L R / B, B, C): a query's rows do not see each other, so they can stand as further positions."""
    length, rows, width = query.shape
    if rows == batch:
        return query
    return query.view(length, batch, -1, width).transpose(1, 2).reshape(-1, batch, width)


def _ungroup(fused: Tensor, rows: int) -> Tensor:
    """What :func:`_group` put together, apart again: (L R / B, B, C) -> (L, R, C)."""
    _, batch, width = fused.shape
    if rows == batch:
        return fused
    return fused.view(-1, rows // batch, batch, width).transpose(1, 2).reshape(-1, rows, width)


class CARTDecoderLayer(nn.Module):
    """Self-attention, fusion and feed-forward, each with residual connection, dropout and layer norm.

    Args:
        cfg: fairseq's ``TransformerConfig`` with the fields of CART (``fusion``, ``coarse_gating``, ``fine_scaling``).
    """

    def __init__(self, cfg: Any):
        super().__init__()
        width, heads = cfg.decoder.embed_dim, cfg.decoder.attention_heads
        self.normalize_before = cfg.decoder.normalize_before
        self.dropout = Dropout(cfg.dropout)
        self.self_attn = SelfAttention(width, heads, cfg.attention_dropout)
        self.self_attn_layer_norm = LayerNorm(width)
        self.fusion = FusionAttention(
            cfg.fusion,
            cfg.encoder.layers,
            width,
            cfg.encoder.embed_dim,
            heads,
            cfg.attention_dropout,
            cfg.coarse_gating,
            cfg.fine_scaling,
        )
        self.fusion_layer_norm = LayerNorm(width)
        self.activation = utils.get_activation_fn(cfg.activation_fn)
        self.activation_dropout = Dropout(cfg.activation_dropout)
        self.fc1 = nn.Linear(width, cfg.decoder.ffn_embed_dim)
        self.fc2 = nn.Linear(cfg.decoder.ffn_embed_dim, width)
        self.final_layer_norm = LayerNorm(width)

    def forward(
        self,
        x: Tensor,
        memories: Sequence[Tensor],
        padding: Tensor | None,
        incremental_state: dict[str, Any] | None = None,
        slots: Tensor | None = None,
    ) -> Tensor:
        """Run the layer on x (L, R, C) with ``memories``, each (T, B, C); returns (L, R, C)."""
        y = self.self_attn_layer_norm(x) if self.normalize_before else x
        x = x + self.dropout(self.self_attn(y, incremental_state))
        y = self.fusion_layer_norm(x) if self.normalize_before else self.self_attn_layer_norm(x)
        fused = self.fusion(y, memories, padding, incremental_state, slots)
        x = (x if self.normalize_before else y) + self.dropout(fused)
        y = self.final_layer_norm(x) if self.normalize_before else self.fusion_layer_norm(x)
        hidden = self.activation_dropout(self.activation(self.fc1(y)))
        x = (x if self.normalize_before else y) + self.dropout(self.fc2(hidden))
        return x if self.normalize_before else self.final_layer_norm(x)
