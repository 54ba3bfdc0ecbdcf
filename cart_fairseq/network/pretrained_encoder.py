"""A pretrained transformer in the place of CART's query encoder; the fusion reads all its layers (CART 3.4).

Its weights come from the data-bin (:mod:`cart_fairseq.loading.transformer`) and then from the checkpoint, which holds them too.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cart_fairseq.network.state_cache import StateCache

ALL = -1
PAD = 1
"""fairseq's padding symbol."""


class PretrainedEncoder(nn.Module):
    """A transformers encoder that takes fairseq's symbols and returns what :class:`~cart_fairseq.network.encoder.CARTEncoder` does.

    Args:
        transformer: the model of transformers, without a pooler.
        symbols: size of the query dictionary: fairseq's four specials, then the model's tokens.
        specials: the model's tokens for fairseq's ``<s>``, ``<pad>``, ``</s>`` and ``<unk>``.
        max_tokens: the longest text that the model reads, its start and end token included.
        digest: bytes that tell the model, as it was before it learned, from other encoders. Kept as an attribute.
        trained_layers: how many of the upper layers learn: 0 for none, -1 for all and the embeddings. What does not learn
            stays in evaluation mode, without dropout.
        cache: GiB of memory for the states of training queries, which a frozen encoder then reads once; on CPUs alone.

    Attributes:
        layers: S, how many it has.
        width: C, of its states.
        frozen: whether nothing of it learns, so that it says the same of a query each time.

    Raises:
        ValueError: it has fewer layers than are to learn.
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
                f"--train-text-layers is {trained_layers}; the text encoder has {self.layers} layers: give 0 to {self.layers}, "
                f"or {ALL} for all of it"
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
        """The layers that learn, where not everything does."""
        if self.trained_layers <= 0:
            return []
        stacks = [module for module in self.transformer.modules() if isinstance(module, nn.ModuleList)]
        stack = next(stack for stack in stacks if len(stack) == self.layers)
        return [*stack][-self.trained_layers :]

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        """Switch what learns to training or evaluation mode; the rest stays in evaluation mode."""
        super().train(mode)
        if self.trained_layers != ALL:
            self.transformer.eval()
            for layer in self._upper_layers():
                layer.train(mode)
        return self

    def forward(self, src_tokens: Tensor, src_lengths: Tensor | None = None) -> dict[str, list[Tensor]]:
        """Encode queries.

        Args:
            src_tokens: (B, T) int64, each ``t1 … tn </s>``, padded on the right.

        Returns:
            What :class:`~cart_fairseq.network.encoder.CARTEncoder` returns, for T + 1 positions, as the model's start token
            comes first; the S states, each (T + 1, B, C), are as transformers returns them.
        """
        padding = src_tokens.eq(self.padding_idx)
        padding = torch.cat([torch.zeros_like(padding[:, :1]), padding], dim=1)
        tokens = torch.cat([torch.full_like(src_tokens[:, :1], self.start), self.token_of[src_tokens]], dim=1)
        lengths = (~padding).sum(1)
        if self.cache is not None and self.training and tokens.device.type == "cpu":
            states = self.cache(tokens, lengths, self._read, self.transformer.dtype)
        else:
            states = self._read(tokens, lengths)
        return {"encoder_out": [states[-1]], "encoder_padding_mask": [padding], "encoder_states": states}

    def _read(self, tokens: Tensor, lengths: Tensor) -> list[Tensor]:
        """(B, T) of the model's tokens, the first ``lengths`` of each row -> S states, each (T, B, C)."""
        there = torch.arange(tokens.size(1), device=tokens.device) < lengths.unsqueeze(1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trained_layers != 0):
            found = self.transformer(input_ids=tokens, attention_mask=there.long(), output_hidden_states=True)
        states = [*found.hidden_states[1:-1], found.last_hidden_state]  # after a last layer norm, where a model has one
        return [state.transpose(0, 1).contiguous() for state in states]

    def max_positions(self) -> int:
        """The longest query, ``</s>`` included."""
        return self.max_source_positions
