"""The encoder-decoder that generates an item's identifier for a query (CART 3.4, Figure 3), in plain PyTorch.

:mod:`cart_fairseq.models.cart` registers it with fairseq and handles flags and checkpoints.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cart_fairseq.base.settings import CALIBRATION_PARAMETERS
from cart_fairseq.network.config import ArchitectureConfig, NetworkConfig
from cart_fairseq.network.decoder import CARTDecoder
from cart_fairseq.network.dense_head import DenseHead
from cart_fairseq.network.embeddings import symbol_embedding
from cart_fairseq.network.encoder import CARTEncoder
from cart_fairseq.network.feature_reader import FeatureReader
from cart_fairseq.network.fusion import Fusion
from cart_fairseq.network.pretrained_encoder import PretrainedEncoder

REVISION_DIGITS = 5
"""Digits of a revision number to the base 256."""
HISTORY_BYTES = 8
UNTRAINED = (1 << 8 * REVISION_DIGITS) - 1
"""The revision of a model before any training: no item is younger."""


class MediaBatch(NamedTuple):
    """Training examples with an embedding in front of the words, or without words.

    Attributes:
        embeddings: (M, E) float32, of length 1.
        query: (M,) int64, for each example the query of the batch whose words it has.
        words: (M,) bool, whether it has them.
        previous: (M, J) int64, the decoder's input.
    """

    embeddings: Tensor
    query: Tensor
    words: Tensor
    previous: Tensor


class CART(nn.Module):
    """Encoder, decoder and optional dense head.

    Args:
        encoder: the query encoder, new or pretrained.
        decoder: the identifier decoder.
        fingerprint: bytes that identify the identifiers, the vocabulary and the text encoder of the model.
        dense: the dense head, or None.
        reader: lets the decoder read embeddings in front of the words; None for text queries alone.

    Attributes:
        precision: the precision of inference, as :func:`cart_fairseq.network.precision.convert` left it.
        architecture: the settings that it was built by; None if it was built without a data-bin.
    """

    precision = "float32"
    architecture: ArchitectureConfig | None = None

    data_fingerprint: Tensor
    level_discount: Tensor
    calibration: Tensor
    revision_digits: Tensor
    history_bytes: Tensor

    def __init__(
        self,
        encoder: CARTEncoder | PretrainedEncoder,
        decoder: CARTDecoder,
        fingerprint: bytes = b"",
        dense: DenseHead | None = None,
        reader: FeatureReader | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.dense = dense
        self.reader = reader
        # as floats, because half precision and checkpoint averaging leave small whole floats unchanged
        self.register_buffer("data_fingerprint", torch.tensor(list(fingerprint), dtype=torch.float32))
        # gamma of the search's ranking; cart_fairseq.tune sets it
        self.register_buffer("level_discount", torch.tensor(1.0))
        # of the probabilities of hits; cart_fairseq.tune sets it, zeros: not calibrated
        self.register_buffer("calibration", torch.zeros(CALIBRATION_PARAMETERS))
        self.register_buffer("revision_digits", torch.full((REVISION_DIGITS,), 255.0))
        self.register_buffer("history_bytes", torch.zeros(HISTORY_BYTES))
        pretrained = {*encoder.transformer.modules()} if isinstance(encoder, PretrainedEncoder) else set()
        self.apply(lambda module: None if module in pretrained else _init_xavier(module))
        for module in self.modules():
            if isinstance(module, Fusion) and module.fine:
                module.reset_gates()
        if dense is not None:
            dense.reset_straight()

    @property
    def revision(self) -> int:
        """The revision of the identifier bundle whose items the model knows; items of later revisions are younger."""
        return int(sum(int(digit) << 8 * place for place, digit in enumerate(self.revision_digits.tolist())))

    @revision.setter
    def revision(self, value: int) -> None:
        digits = [value >> 8 * place & 255 for place in range(REVISION_DIGITS)]
        self.revision_digits.copy_(torch.tensor(digits))

    @property
    def history(self) -> str:
        """The additions to the identifier bundle that the model knows, in hexadecimal digits; empty if not recorded."""
        found = bytes(int(value) for value in self.history_bytes.tolist())
        return found.hex() if any(found) else ""

    @history.setter
    def history(self, value: str) -> None:
        self.history_bytes.copy_(torch.tensor([*bytes.fromhex(value).ljust(HISTORY_BYTES, b"\0")]))

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        items: Tensor | None = None,
        item_features: Tensor | None = None,
        media: MediaBatch | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Run encoder and decoder, and compute the dense head's loss if its inputs are given.

        Args:
            src_tokens: (B, T) int64, or (2 B, T) if a second dropout pass follows the first.
            src_lengths: the lengths of the rows of ``src_tokens``.
            prev_output_tokens: (R, J) int64, R a multiple of the number of rows of ``src_tokens``.
            items: (B,) int64, the queries' item rows; -1 leaves a query out of the dense head's loss.
            item_features: (B, D), the features of these items.
            media: examples with embeddings, for a model with a reader.

        Returns:
            Logits (R, J, V) and a dictionary of extras. With a dense head, ``items`` and ``item_features``, it has the
            head's loss (``contrastive``) and what its query tower reads (``query_features``, (B, F)). With
            ``media`` it has the logits of these examples (``media``, (M, J, V)).
        """
        encoder_out = self.encoder(src_tokens, src_lengths)
        logits, extra = self.decoder(prev_output_tokens, encoder_out)
        if self.dense is not None and items is not None and item_features is not None:
            extra["query_features"] = self.dense.features(encoder_out)[: len(items)]
            extra["contrastive"] = self.dense.loss(extra["query_features"], item_features, items)
        if self.reader is not None and media is not None:
            states = [state.index_select(1, media.query) for state in encoder_out["encoder_states"]]
            padding = encoder_out["encoder_padding_mask"][0][media.query]
            theirs = {"encoder_states": states, "encoder_out": states[-1:], "encoder_padding_mask": [padding]}
            front = self.reader(theirs, media.embeddings, torch.ones_like(media.words), media.words)
            extra["media"], _ = self.decoder(media.previous, front)
        return logits, extra

    def max_positions(self) -> tuple[int, int]:
        """The lengths of the longest query and the longest identifier, in symbols."""
        return self.encoder.max_positions(), self.decoder.max_positions()


def build_encoder(cfg: NetworkConfig, symbols: int, pad: int) -> CARTEncoder:
    """Make an encoder with new weights for a query dictionary of ``symbols`` symbols."""
    return CARTEncoder(cfg, symbol_embedding(symbols, cfg.encoder.embed_dim, pad))


def build_decoder(cfg: NetworkConfig, symbols: int, pad: int) -> CARTDecoder:
    """Make a decoder with new weights for an identifier dictionary of ``symbols`` symbols."""
    return CARTDecoder(cfg, symbol_embedding(symbols, cfg.decoder.embed_dim, pad))


def _init_xavier(module: nn.Module) -> None:
    """Initialise weights Xavier-uniformly and biases with zero (CART appendix C); padding embeddings are zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.xavier_uniform_(module.weight)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        nn.init.zeros_(module.weight[module.padding_idx])
