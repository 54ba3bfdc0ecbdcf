"""Text encoders of the dual-tower contenders, in their real sizes with random weights: only time is measured."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cart_fairseq.base.libraries import hide_broken_torchaudio

WIDTHS = {"clip": 512, "clap": 512, "minilm": 384}
"""Dimensions of the vectors: those of the published models."""
CLIP_TOKENS = 77  # CLIP pads every text to this length

Encode = Callable[[], Tensor]
Built = tuple[nn.Module, Callable[[Any], Tensor], Tensor, Tensor]  # model, its pooling, tokens and mask


def width_of(name: str) -> int:
    """Return the dimensions of an encoder's vectors."""
    return WIDTHS[name]


def text_encoder(
    name: str, net_input: dict[str, Tensor], seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Encode:
    """Build a text encoder and a batch of texts for it.

    Args:
        name: ``clip`` (that of ViT-B/32, 12 layers of width 512, texts padded to 77 tokens), ``clap`` (RoBERTa, 12
            layers of width 768) or ``minilm`` (L6, 6 layers of width 384, mean-pooled).
        net_input: the batch of queries. The texts have the same lengths.
        device: where the encoder and its texts are.
        dtype: of the encoder's weights and vectors.

    Returns:
        A function that encodes the batch to (Q, `width_of(name)`) of that dtype and unit length.
    """
    torch.manual_seed(seed)
    lengths = net_input["src_lengths"].cpu()
    model, pooled, tokens, mask = _BUILDERS[name](lengths, width_of(name))
    model = model.to(device, dtype).eval()
    tokens, mask = tokens.to(device), mask.to(device)

    def encode() -> Tensor:
        with torch.inference_mode():
            return nn.functional.normalize(pooled(model(input_ids=tokens, attention_mask=mask)), dim=1)

    return encode


def _texts(lengths: Tensor, vocabulary: int, pad: int, end: int, length: int) -> tuple[Tensor, Tensor]:
    """Return random texts with the lengths of the queries, and their attention mask, both (Q, length)."""
    lengths = lengths.unsqueeze(1)
    tokens = torch.randint(10, vocabulary - 10, (len(lengths), length))
    place = torch.arange(length)
    tokens[place >= lengths] = pad
    tokens[place == lengths - 1] = end
    return tokens, (place < lengths).long()


def _clip(lengths: Tensor, width: int) -> Built:
    hide_broken_torchaudio()
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(projection_dim=width)
    end = int(config.eos_token_id)  # type: ignore[arg-type]
    longest = max(CLIP_TOKENS, int(lengths.max()))
    if longest > CLIP_TOKENS:
        raise ValueError(f"a query has {longest} tokens, but CLIP reads at most {CLIP_TOKENS}; lower --query-tokens")
    batch = _texts(lengths, config.vocab_size, end, end, CLIP_TOKENS)
    return CLIPTextModelWithProjection(config), lambda output: output.text_embeds, *batch


def _clap(lengths: Tensor, width: int) -> Built:
    hide_broken_torchaudio()
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    config = ClapTextConfig(projection_dim=width)
    batch = _texts(lengths, config.vocab_size, 1, 2, int(lengths.max()))
    return ClapTextModelWithProjection(config), lambda output: output.text_embeds, *batch


class _MeanPooled(nn.Module):
    """A BERT whose states are averaged over tokens."""

    def __init__(self, bert: nn.Module):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(2).to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1)


def _minilm(lengths: Tensor, width: int) -> Built:
    hide_broken_torchaudio()
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=width, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    batch = _texts(lengths, config.vocab_size, 0, 102, int(lengths.max()))
    bert = BertModel(config, add_pooling_layer=False)
    return _MeanPooled(bert), lambda output: output, *batch


_BUILDERS = {"clip": _clip, "clap": _clap, "minilm": _minilm}
ENCODERS = tuple(_BUILDERS)
