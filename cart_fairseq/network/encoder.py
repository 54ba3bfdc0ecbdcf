"""The query encoder: a transformer whose every layer's output is kept for the fusion (CART 3.4)."""

from typing import Any

from fairseq import utils
from fairseq.models.transformer import TransformerEncoderBase
from fairseq.modules import LayerNorm
from torch import Tensor, nn

from cart_fairseq.network.attention import Attention
from cart_fairseq.network.dropout import Dropout


class CARTEncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with residual connection, dropout and layer norm.

    Args:
        cfg: fairseq's ``TransformerConfig``.
    """

    def __init__(self, cfg: Any):
        super().__init__()
        width = cfg.encoder.embed_dim
        self.normalize_before = cfg.encoder.normalize_before
        self.dropout = Dropout(cfg.dropout)
        self.self_attn = Attention(width, cfg.encoder.attention_heads, cfg.attention_dropout)
        self.self_attn_layer_norm = LayerNorm(width)
        self.activation = utils.get_activation_fn(cfg.activation_fn)
        self.activation_dropout = Dropout(cfg.activation_dropout)
        self.fc1 = nn.Linear(width, cfg.encoder.ffn_embed_dim)
        self.fc2 = nn.Linear(cfg.encoder.ffn_embed_dim, width)
        self.final_layer_norm = LayerNorm(width)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """Run the layer on x (T, B, C); ``hidden`` (B, 1, T) is True where the source is padding."""
        y = self.self_attn_layer_norm(x) if self.normalize_before else x
        x = x + self.dropout(self.self_attn.attend(y, *self.self_attn.project(y.unsqueeze(0)), hidden)[0])
        x = x if self.normalize_before else self.self_attn_layer_norm(x)
        y = self.final_layer_norm(x) if self.normalize_before else x
        x = x + self.dropout(self.fc2(self.activation_dropout(self.activation(self.fc1(y)))))
        return x if self.normalize_before else self.final_layer_norm(x)


class CARTEncoder(TransformerEncoderBase):
    """fairseq's transformer encoder with layers that train fast on short texts, returning E_1 … E_S always."""

    def __init__(self, cfg: Any, dictionary: Any, embed_tokens: nn.Embedding):
        super().__init__(cfg, dictionary, embed_tokens)
        self.dropout_module = Dropout(cfg.dropout)

    def build_encoder_layer(self, cfg: Any) -> CARTEncoderLayer:
        """One of the encoder's layers."""
        return CARTEncoderLayer(cfg)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        return_all_hiddens: bool = True,
        token_embeddings: Tensor | None = None,
    ) -> dict[str, list[Tensor]]:
        """Encode queries.

        Args:
            src_tokens: (B, T) int64, padded on the right.

        Returns:
            fairseq's dictionary; ``encoder_states`` holds the S states, each (T, B, C), all of them layer-normalised
            where the encoder normalises before its blocks, so that the fusion sees them on one scale.
        """
        padding = src_tokens.eq(self.padding_idx)
        x, embedding = self.forward_embedding(src_tokens, token_embeddings)
        x = x.transpose(0, 1).contiguous()
        hidden = padding[:, None, :] if padding.any() else None
        states = []
        for layer in self.layers:
            x = layer(x, hidden)
            states.append(x if self.layer_norm is None else self.layer_norm(x))
        return {
            "encoder_out": [states[-1]],
            "encoder_padding_mask": [padding],
            "encoder_embedding": [embedding],
            "encoder_states": states,
            "fc_results": [],
            "src_tokens": [],
            "src_lengths": [(~padding).sum(1, keepdim=True).int()],
        }

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> dict[str, Tensor]:
        """Nothing to upgrade: fairseq's version renames keys of its own layers."""
        return state_dict
