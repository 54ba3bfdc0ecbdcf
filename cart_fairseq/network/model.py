"""The encoder-decoder that writes an item's identifier for a query (CART 3.4, Figure 3), in plain PyTorch.

The architecture as fairseq knows it, its flags and its checkpoints, is :mod:`cart_fairseq.models.cart`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from cart_fairseq.network.config import NetworkConfig
from cart_fairseq.network.decoder import CARTDecoder
from cart_fairseq.network.dense_head import DenseHead, mean_state
from cart_fairseq.network.embeddings import symbol_embedding
from cart_fairseq.network.encoder import CARTEncoder
from cart_fairseq.network.fusion import Fusion
from cart_fairseq.network.pretrained_encoder import PretrainedEncoder


class CART(nn.Module):
    """Encoder, decoder and, where there is one, dense head.

    Args:
        encoder: one trained from scratch, or a pretrained one.
        decoder: the decoder.
        fingerprint: bytes of the identifiers, the vocabulary and the text encoder that the model belongs to.
        dense: the dense head, if there is one.
    """

    data_fingerprint: Tensor
    level_discount: Tensor

    def __init__(
        self,
        encoder: CARTEncoder | PretrainedEncoder,
        decoder: CARTDecoder,
        fingerprint: bytes = b"",
        dense: DenseHead | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.dense = dense
        # as floats, which survive half precision and checkpoint averaging unchanged
        self.register_buffer("data_fingerprint", torch.tensor(list(fingerprint), dtype=torch.float32))
        # of symbols' scores in searches; cart_fairseq.tune sets it
        self.register_buffer("level_discount", torch.tensor(1.0))
        pretrained = {*encoder.transformer.modules()} if isinstance(encoder, PretrainedEncoder) else set()
        self.apply(lambda module: None if module in pretrained else _init_xavier(module))
        for module in self.modules():
            if isinstance(module, Fusion) and module.fine:
                module.reset_gates()
        if dense is not None:
            dense.reset_straight()

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
        logits, extra = self.decoder(prev_output_tokens, encoder_out)
        if self.dense is not None and items is not None and item_features is not None:
            extra["contrastive"] = self.dense.loss(encoder_out, item_features, items)
            extra["mean_state"] = mean_state(encoder_out)[: len(items)]
        return logits, extra

    def max_positions(self) -> tuple[int, int]:
        """The longest query and the longest identifier, in symbols."""
        return self.encoder.max_positions(), self.decoder.max_positions()


def build_encoder(cfg: NetworkConfig, symbols: int, pad: int) -> CARTEncoder:
    """An encoder with new weights for a query dictionary of so many symbols."""
    return CARTEncoder(cfg, symbol_embedding(symbols, cfg.encoder.embed_dim, pad))


def build_decoder(cfg: NetworkConfig, symbols: int, pad: int) -> CARTDecoder:
    """A decoder with new weights for an identifier dictionary of so many symbols."""
    return CARTDecoder(cfg, symbol_embedding(symbols, cfg.decoder.embed_dim, pad))


def _init_xavier(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases, as CART's appendix C says; padding embeddings are zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.xavier_uniform_(module.weight)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        nn.init.zeros_(module.weight[module.padding_idx])
