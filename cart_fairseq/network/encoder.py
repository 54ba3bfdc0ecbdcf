"""The query encoder: a transformer that returns the output of every layer, for the fusion (CART 3.4)."""

import math

import torch
from torch import Tensor, nn

from cart_fairseq.network.activations import ACTIVATIONS
from cart_fairseq.network.attention import Attention
from cart_fairseq.network.config import NetworkConfig
from cart_fairseq.network.dropout import Dropout
from cart_fairseq.network.embeddings import position_embedding


class CARTEncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with residual connection, dropout and layer norm.

    Args:
        cfg: sizes and options.
    """

    def __init__(self, cfg: NetworkConfig):
        super().__init__()
        width = cfg.encoder.embed_dim
        self.normalize_before = cfg.encoder.normalize_before
        self.dropout = Dropout(cfg.dropout)
        self.self_attn = Attention(width, cfg.encoder.attention_heads, cfg.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.activation = ACTIVATIONS[cfg.activation_fn]
        self.activation_dropout = Dropout(cfg.activation_dropout)
        self.fc1 = nn.Linear(width, cfg.encoder.ffn_embed_dim)
        self.fc2 = nn.Linear(cfg.encoder.ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """Run the layer: (T, B, C) -> (T, B, C); ``hidden`` (B, 1, T) is True where the source is padding, or None."""
        y = self.self_attn_layer_norm(x) if self.normalize_before else x
        x = x + self.dropout(self.self_attn.attend(y, *self.self_attn.project(y.unsqueeze(0)), hidden)[0])
        x = x if self.normalize_before else self.self_attn_layer_norm(x)
        y = self.final_layer_norm(x) if self.normalize_before else x
        x = x + self.dropout(self.fc2(self.activation_dropout(self.activation(self.fc1(y)))))
        return x if self.normalize_before else self.final_layer_norm(x)


class CARTEncoder(nn.Module):
    """Embeds symbols and positions, runs the layers, and returns the output of each layer, E_1 … E_S.

    "The output of an encoder with S layers can be defined as E(q) = (E_1, E_2, …, E_S)" (§3.4). A pre-norm
    encoder applies its final layer norm to each state by default, so that the fusion gets all of them on one scale.
    With ``encoder_states="raw"`` it has no final layer norm, and E_i is what the layer returns.

    Args:
        cfg: sizes and options.
        embed_tokens: (V, C) embeddings of the query symbols.
    """

    version: Tensor

    def __init__(self, cfg: NetworkConfig, embed_tokens: nn.Embedding):
        super().__init__()
        self.register_buffer("version", torch.tensor([3.0]))  # fairseq's transformer checkpoints contain it
        width = embed_tokens.embedding_dim
        assert embed_tokens.padding_idx is not None
        self.padding_idx = embed_tokens.padding_idx
        self.max_source_positions = cfg.max_source_positions
        self.embed_scale = math.sqrt(width)
        self.embed_tokens = embed_tokens
        self.embed_positions = position_embedding(
            cfg.encoder.learned_pos, cfg.max_source_positions, width, self.padding_idx
        )
        self.layers = nn.ModuleList(CARTEncoderLayer(cfg) for _ in range(cfg.encoder.layers))
        normed = cfg.encoder.normalize_before and cfg.encoder_states == "normed"
        self.layer_norm = nn.LayerNorm(width) if normed else None
        self.dropout_module = Dropout(cfg.dropout)

    def forward(self, src_tokens: Tensor, src_lengths: Tensor | None = None) -> dict[str, list[Tensor]]:
        """Encode queries.

        Args:
            src_tokens: (B, T) int64, padded on the right.
            src_lengths: not used; fairseq passes it to all encoders.

        Returns:
            ``encoder_out``: the last state, (T, B, C); ``encoder_padding_mask``: (B, T) bool, True where the source is
            padding; ``encoder_states``: the S states, each (T, B, C); ``src_tokens``: the queries.
        """
        padding = src_tokens.eq(self.padding_idx)
        x = self.embed_scale * self.embed_tokens(src_tokens) + self.embed_positions(src_tokens)
        x = self.dropout_module(x).transpose(0, 1).contiguous()
        hidden = padding[:, None, :] if padding.any() else None
        states = []
        for layer in self.layers:
            x = layer(x, hidden)
            states.append(x if self.layer_norm is None else self.layer_norm(x))
        return {
            "encoder_out": [states[-1]],
            "encoder_padding_mask": [padding],
            "encoder_states": states,
            "src_tokens": [src_tokens],
        }

    def max_positions(self) -> int:
        """The length of the longest query, in symbols."""
        return self.max_source_positions
