"""A pretrained transformer in the place of CART's query encoder; the fusion reads all its layers (CART 3.4).

Its weights come from the data-bin (:mod:`cart_fairseq.catalogue.text_encoder`) and then from the checkpoint, which holds them too.
"""

from pathlib import Path
from typing import Any

import torch
from fairseq.models import FairseqEncoder
from fairseq.models.transformer import TransformerEncoderBase
from safetensors.torch import load_file
from torch import Tensor, nn

from cart_fairseq.catalogue.text_encoder import FAIRSEQ_SPECIALS, WEIGHTS, TextEncoder, missing
from cart_fairseq.network.state_cache import StateCache

ALL = -1


class PretrainedEncoder(FairseqEncoder):
    """A transformers encoder that takes fairseq's symbols and returns what :class:`~cart_fairseq.network.encoder.CARTEncoder` does.

    Args:
        dictionary: the query dictionary.
        files: the data-bin's text encoder.
        trained_layers: how many of the upper layers learn: 0 for none, -1 for all and the embeddings. What does not learn
            stays in evaluation mode, without dropout.
        cache: GiB of memory for the states of training queries, which a frozen encoder then reads once; on CPUs alone.

    Attributes:
        transformer: the model of transformers, without a pooler.
        layers: S, how many it has.
        width: C, of its states.
        frozen: whether nothing of it learns, so that it says the same of a query each time.
        digest: bytes that tell it, as it was before it learned, from other encoders.

    Raises:
        ValueError: it has fewer layers, or the library transformers is missing.
    """

    reorder_encoder_out = TransformerEncoderBase.reorder_encoder_out

    def __init__(self, dictionary: Any, files: TextEncoder, trained_layers: int = 0, cache: float = 0.0):
        super().__init__(dictionary)
        self.transformer = load_transformer(files.directory)
        self.layers: int = self.transformer.config.num_hidden_layers
        self.width: int = self.transformer.config.hidden_size
        if not ALL <= trained_layers <= self.layers:
            raise ValueError(
                f"--train-text-layers is {trained_layers}; the text encoder has {self.layers} layers: give 0 to {self.layers}, "
                f"or {ALL} for all of it"
            )
        self.trained_layers = trained_layers
        self.frozen = trained_layers == 0
        self.cache = StateCache(cache) if self.frozen and cache > 0 else None
        self.padding_idx = dictionary.pad()
        self.start = files.start
        self.digest = files.digest
        self.max_source_positions = files.max_tokens - 1
        token_of = torch.arange(len(dictionary)) - len(FAIRSEQ_SPECIALS)
        for symbol, token in (
            (dictionary.bos(), files.start),
            (dictionary.eos(), files.end),
            (dictionary.pad(), files.pad),
            (dictionary.unk(), files.unk),
        ):
            token_of[symbol] = token
        self.register_buffer("token_of", token_of, persistent=False)
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

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor | None = None, return_all_hiddens: bool = True
    ) -> dict[str, list[Tensor]]:
        """Encode queries.

        Args:
            src_tokens: (B, T) int64, each ``t1 … tn </s>``, padded on the right.

        Returns:
            fairseq's dictionary for T + 1 positions, as the model's start token comes first; ``encoder_states`` holds the S
            states, each (T + 1, B, C), as transformers returns them.
        """
        padding = src_tokens.eq(self.padding_idx)
        padding = torch.cat([torch.zeros_like(padding[:, :1]), padding], dim=1)
        tokens = torch.cat([torch.full_like(src_tokens[:, :1], self.start), self.token_of[src_tokens]], dim=1)
        lengths = (~padding).sum(1)
        if self.cache is not None and self.training and tokens.device.type == "cpu":
            states = self.cache(tokens, lengths, self._read, self.transformer.dtype)
        else:
            states = self._read(tokens, lengths)
        return {
            "encoder_out": [states[-1]],
            "encoder_padding_mask": [padding],
            "encoder_embedding": [],
            "encoder_states": states,
            "fc_results": [],
            "src_tokens": [],
            "src_lengths": [lengths.unsqueeze(1).int()],
        }

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


def load_transformer(directory: Path) -> Any:
    """The model of a folder that ``save_pretrained`` wrote, in float32, without a pooler; looks nowhere else.

    Raises:
        ValueError: the weights are not the model's, or the library transformers is missing.
    """
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError:
        raise missing("transformers") from None
    model = without_pooler(AutoModel.from_config(AutoConfig.from_pretrained(directory, local_files_only=True)).float())
    try:
        model.load_state_dict(load_file(directory / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(
            f"{directory / WEIGHTS}: not the weights of a {type(model).__name__} ({str(error).splitlines()[-1].strip()}); "
            "binarise again with another --text-encoder, or with the version of transformers that wrote it"
        ) from None
    return model


def without_pooler(model: Any) -> Any:
    """The model without the layer that some have behind their last state, which nothing reads."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model
