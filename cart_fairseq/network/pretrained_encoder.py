"""A pretrained transformer as query encoder; the fusion reads all its layers (CART 3.4).

Training starts from the weights in the data-bin (:mod:`cart_fairseq.loading.transformer`). The checkpoint stores the
encoder's weights too.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cart_fairseq.network.embeddings import PAD
from cart_fairseq.network.state_cache import StateCache

ALL = -1


class PretrainedEncoder(nn.Module):
    """An encoder of the library transformers with the interface of :class:`~cart_fairseq.network.encoder.CARTEncoder`.

    Args:
        transformer: the transformers model, without a pooler.
        symbols: size of the query dictionary: fairseq's four special symbols, then the model's tokens.
        specials: the model's tokens for fairseq's ``<s>``, ``<pad>``, ``</s>`` and ``<unk>``.
        max_tokens: length of the longest text, including the start and end tokens.
        digest: bytes that identify the pretrained weights and the tokeniser. Kept as an attribute.
        trained_layers: number of upper layers to train; 0: none, -1: all layers and the embeddings. Frozen layers stay
            in evaluation mode, without dropout.
        cache: GiB of memory in which a frozen encoder keeps the states of training queries; used on CPUs only.

    Attributes:
        layers: S, the number of layers.
        width: C, the width of the states.
        frozen: whether no layer is trained, so that a query's states never change.

    Raises:
        ValueError: ``trained_layers`` is below -1 or above the number of layers.
    """

    token_of: Tensor

    def __init__(
        self,
        transformer: Any,
        symbols: int,
        specials: Sequence[int],
        max_tokens: int,
        digest: bytes = b"",
        trained_layers: int = 0,
        cache: float = 0.0,
    ):
        super().__init__()
        self.transformer = transformer
        self.layers: int = transformer.config.num_hidden_layers
        self.width: int = transformer.config.hidden_size
        if not ALL <= trained_layers <= self.layers:
            raise ValueError(
                f"--train-text-layers is {trained_layers}; the text encoder has {self.layers} layers: give 0 to "
                f"{self.layers}, or {ALL} to train all layers and the embeddings"
            )
        self.trained_layers = trained_layers
        self.frozen = trained_layers == 0
        self.cache = StateCache(cache) if self.frozen and cache > 0 else None
        self.padding_idx = PAD
        self.start = specials[0]
        self.digest = digest
        self.max_source_positions = max_tokens - 1
        tokens = torch.tensor([*specials, *range(symbols - len(specials))])
        self.register_buffer("token_of", tokens, persistent=False)
        self.transformer.requires_grad_(trained_layers == ALL)
        for layer in self._upper_layers():
            layer.requires_grad_(True)
        self.train(self.training)

    def _upper_layers(self) -> list[nn.Module]:
        """The layers to train, or an empty list if none or everything is trained."""
        if self.trained_layers <= 0:
            return []
        stacks = [module for module in self.transformer.modules() if isinstance(module, nn.ModuleList)]
        stack = next(stack for stack in stacks if len(stack) == self.layers)
        return [*stack][-self.trained_layers :]

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        """Switch the trained layers to training or evaluation mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        if self.trained_layers != ALL:
            self.transformer.eval()
            for layer in self._upper_layers():
                layer.train(mode)
        return self

    def forward(self, src_tokens: Tensor, src_lengths: Tensor | None = None) -> dict[str, list[Tensor]]:
        """Encode queries.

        Args:
            src_tokens: (B, T) int64, each row ``t1 … tn </s>``, padded on the right.
            src_lengths: not used; fairseq passes it to all encoders.

        Returns:
            The dictionary that :class:`~cart_fairseq.network.encoder.CARTEncoder` returns. It has T + 1 positions,
            because the model's start token comes first. The S states are (T + 1, B, C) hidden states of transformers.
        """
        padding = src_tokens.eq(self.padding_idx)
        padding = torch.cat([torch.zeros_like(padding[:, :1]), padding], dim=1)
        tokens = torch.cat([torch.full_like(src_tokens[:, :1], self.start), self.token_of[src_tokens]], dim=1)
        lengths = (~padding).sum(1)
        if self.cache is not None and self.training and tokens.device.type == "cpu":
            states = self.cache(tokens, lengths, self._read, self.transformer.dtype)
        else:
            states = self._read(tokens, lengths)
        found = {"encoder_out": [states[-1]], "encoder_padding_mask": [padding], "encoder_states": states}
        return found | {"src_tokens": [src_tokens]}

    def _read(self, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
        """Run the transformer: (B, T) int64 tokens and their (B,) lengths -> S states, each (T, B, C)."""
        there = torch.arange(tokens.size(1), device=tokens.device) < lengths.unsqueeze(1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trained_layers != 0):
            found = self.transformer(input_ids=tokens, attention_mask=there.long(), output_hidden_states=True)
        states = [*found.hidden_states[1:-1], found.last_hidden_state]  # with the final layer norm, if there is one
        return [state.transpose(0, 1).contiguous() for state in states]

    def max_positions(self) -> int:
        """The length of the longest query, including ``</s>``."""
        return self.max_source_positions
