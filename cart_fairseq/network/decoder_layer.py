"""A decoder layer of CART: causal self-attention, fusion, feed-forward (CART 3.4, Figure 3).

In incremental decoding each layer has a :data:`Cache`. It holds the keys and values of earlier positions, which are
reordered with the beams, and the keys and values of the memories, which are stored once per query.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cart_fairseq.network.activations import ACTIVATIONS
from cart_fairseq.network.attention import Attention
from cart_fairseq.network.config import NetworkConfig
from cart_fairseq.network.dropout import Dropout
from cart_fairseq.network.fusion import Fusion

Cache = dict[str, Tensor]
PAST, MEMORY = ("past_key", "past_value"), ("memory_key", "memory_value")


class SelfAttention(Attention):
    """Causal self-attention that caches the keys and values of earlier positions in incremental decoding."""

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        """Attend from each position to itself and all earlier ones: (L, R, embed_dim) -> (L, R, embed_dim)."""
        key, value = self.project(x.unsqueeze(0))
        if cache is None:
            length = len(x)
            future = torch.ones(1, length, length, dtype=torch.bool, device=x.device).triu(1)
            return self.attend(x, key, value, future)[0]
        if PAST[0] in cache:
            key, value = (torch.cat([cache[name], new], dim=1) for name, new in zip(PAST, (key, value), strict=True))
        cache.update(zip(PAST, (key, value), strict=True))
        return self.attend(x, key, value)[0]


class FusionAttention(Fusion):
    """Fusion that computes the memories' keys and values once per query in incremental decoding.

    A query may have several consecutive rows, which are beams or dropout passes. They share the query's memories.
    """

    def forward(
        self,
        query: Tensor,
        memories: Sequence[Tensor],
        padding: Tensor | None,
        cache: Cache | None,
        slots: Tensor | None = None,
    ) -> Tensor:
        """Attend to the memories and fuse the results.

        Args:
            query: (L, R, C), with R a multiple of B unless ``slots`` is given.
            memories: tensors (T, B, C); not read if the cache holds their keys and values.
            padding: (B, T) bool, True where the source is padding; or None.
            cache: the layer's cache, changed in place; None outside incremental decoding.
            slots: see :meth:`~cart_fairseq.network.attention.Attention.attend`.

        Returns:
            (L, R, C).
        """
        hidden = None if padding is None else padding[:, None, :]
        if cache is None:
            grouped = _group(query, memories[0].size(1))
            context = self.attention.attend_once(grouped, memories, hidden)
            return _ungroup(self.fuse(grouped, context), query.size(1))
        if MEMORY[0] not in cache:
            cache.update(zip(MEMORY, self.attention.project(torch.stack([*memories])), strict=True))
        key, value = (cache[name] for name in MEMORY)
        if slots is not None:
            return self.fuse(query, self.attention.attend(query, key, value, hidden, slots))
        grouped = _group(query, key.size(2))
        return _ungroup(self.fuse(grouped, self.attention.attend(grouped, key, value, hidden)), query.size(1))


def reorder(cache: Cache, names: Sequence[str], new_order: Tensor) -> None:
    """Let row i of the named tensors continue row ``new_order[i]``; the cache is changed in place."""
    cache.update({name: cache[name].index_select(2, new_order) for name in names if name in cache})


def _group(query: Tensor, batch: int) -> Tensor:
    """Make a query's rows further positions: (L, R, C) -> (L R / B, B, C). Rows do not attend to each other."""
    length, rows, width = query.shape
    if rows == batch:
        return query
    return query.view(length, batch, -1, width).transpose(1, 2).reshape(-1, batch, width)


def _ungroup(fused: Tensor, rows: int) -> Tensor:
    """Reverse :func:`_group`: (L R / B, B, C) -> (L, R, C)."""
    _, batch, width = fused.shape
    if rows == batch:
        return fused
    return fused.view(-1, rows // batch, batch, width).transpose(1, 2).reshape(-1, rows, width)


class CARTDecoderLayer(nn.Module):
    """Self-attention, fusion and feed-forward, each with residual connection, dropout and layer norm.

    The paper leaves two points open:

    - Y of Eq. 3-5 is "the decoder input" (§3.4.1 and §3.4.2). By default it is the output of the self-attention
      with residual connection, as in a "standard encoder-decoder architecture" (§3.4). With
      ``fusion_query="decoder-input"`` it is the layer's input before the self-attention. A pre-norm layer normalises
      either one.
    - "Finally, we add the coarse feature and fine feature as input to the next decoder layer" (§3.4.2). By
      default a feed-forward network stands between; with ``no_decoder_ffn`` there is none. The residual connection
      around the fusion stays.

    Args:
        cfg: sizes and options.
    """

    def __init__(self, cfg: NetworkConfig):
        super().__init__()
        width, heads = cfg.decoder.embed_dim, cfg.decoder.attention_heads
        self.normalize_before = cfg.decoder.normalize_before
        self.dropout = Dropout(cfg.dropout)
        self.self_attn = SelfAttention(width, heads, cfg.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fusion = FusionAttention(cfg)
        self.fusion_layer_norm = nn.LayerNorm(width)
        self.queries_with_input = cfg.fusion_query == "decoder-input"
        self.feeds_forward = not cfg.no_decoder_ffn
        if self.feeds_forward:
            self.activation = ACTIVATIONS[cfg.activation_fn]
            self.activation_dropout = Dropout(cfg.activation_dropout)
            self.fc1 = nn.Linear(width, cfg.decoder.ffn_embed_dim)
            self.fc2 = nn.Linear(cfg.decoder.ffn_embed_dim, width)
            self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,
        memories: Sequence[Tensor],
        padding: Tensor | None,
        cache: Cache | None = None,
        slots: Tensor | None = None,
    ) -> Tensor:
        """Run the layer: x (L, R, C) -> (L, R, C); for the other arguments see :meth:`FusionAttention.forward`."""
        given = x
        y = self.self_attn_layer_norm(x) if self.normalize_before else x
        x = x + self.dropout(self.self_attn(y, cache))
        x = x if self.normalize_before else self.self_attn_layer_norm(x)
        y = given if self.queries_with_input else x
        y = self.fusion_layer_norm(y) if self.normalize_before else y
        x = x + self.dropout(self.fusion(y, memories, padding, cache, slots))
        x = x if self.normalize_before else self.fusion_layer_norm(x)
        if not self.feeds_forward:
            return x
        y = self.final_layer_norm(x) if self.normalize_before else x
        x = x + self.dropout(self.fc2(self.activation_dropout(self.activation(self.fc1(y)))))
        return x if self.normalize_before else self.final_layer_norm(x)
