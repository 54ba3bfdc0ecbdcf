"""The single towers of the paper's Table 1: cross-encoders, which read each query together with each picture.

The models are BLIP's and BLIP-2's image-text matching models in their real sizes with random weights. The time does not
include encoding the pictures (BLIP: 577 patches of width 768; BLIP-2 with ViT-g: 257 of width 1408), which favours them.
In half precision, the states of 1M pictures take 0.9 TB or 0.7 TB.

All pairs of a large catalogue would take too long. A batch of pairs is timed, and the time is multiplied, because every
pair costs the same. The tables give the number of measured pairs.
"""

import time
from typing import Any

import torch
from timing import Contender
from torch import Tensor, nn

from cart_fairseq.base.libraries import hide_broken_torchaudio

PATCHES = {"blip": 577, "blip2": 257}  # of a picture of 384 x 384 or 224 x 224, including the class token
QUERY_TOKENS = 32  # of BLIP-2, which read the picture in the place of its patches
RERANKED = 128
SINGLE_TOWERS = {  # contender -> model, candidates per query (None: all)
    "blip": ("blip", None),
    f"blip-{RERANKED}": ("blip", RERANKED),
    "blip2": ("blip2", None),
    f"blip2-{RERANKED}": ("blip2", RERANKED),
}


class Blip(nn.Module):
    """BLIP's text encoder with cross-attention, and its matching head."""

    def __init__(self) -> None:
        super().__init__()
        hide_broken_torchaudio()
        from transformers import BlipTextConfig
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        config = BlipTextConfig()
        self.vocabulary, self.width = config.vocab_size, config.encoder_hidden_size
        self.encoder: Any = BlipTextModel(config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, 2)

    def forward(self, texts: Tensor, mask: Tensor, states: Tensor) -> Tensor:
        """(n, T) texts and mask, (n, patches, width) states -> (n, 2) logits."""
        read = self.encoder(input_ids=texts, attention_mask=mask, encoder_hidden_states=states)
        return self.head(read.last_hidden_state[:, 0])


class Blip2(nn.Module):
    """BLIP-2's Q-Former, which reads query tokens and text together, and its matching head."""

    def __init__(self) -> None:
        super().__init__()
        hide_broken_torchaudio()
        from transformers import Blip2QFormerConfig
        from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerModel, Blip2TextEmbeddings

        config = Blip2QFormerConfig(use_qformer_text_input=True)
        self.vocabulary, self.width = config.vocab_size, config.encoder_hidden_size
        self.embeddings, self.encoder = Blip2TextEmbeddings(config), Blip2QFormerModel(config)
        self.tokens = nn.Parameter(torch.randn(1, QUERY_TOKENS, config.hidden_size))
        self.head = nn.Linear(config.hidden_size, 2)

    def forward(self, texts: Tensor, mask: Tensor, states: Tensor) -> Tensor:
        """(n, T) texts and mask, (n, patches, width) states -> (n, 2) logits."""
        seen = self.tokens.expand(len(texts), -1, -1)
        read = self.encoder(
            query_embeds=self.embeddings(input_ids=texts, query_embeds=seen),
            query_length=QUERY_TOKENS,
            attention_mask=torch.cat([mask.new_ones(seen.shape[:2]), mask], dim=1),
            encoder_hidden_states=states,
        )
        return self.head(read.last_hidden_state[:, :QUERY_TOKENS]).mean(1)


class CrossEncoder:
    """A single tower and a batch of pairs to time.

    Args:
        kind: ``blip`` or ``blip2``.
        net_input: the batch of queries. The texts have the same lengths.
        pairs: number of pairs to time.

    Raises:
        ValueError: the number is below 1.
    """

    def __init__(self, kind: str, net_input: dict[str, Tensor], pairs: int, seed: int):
        hide_broken_torchaudio()
        if pairs < 1:
            raise ValueError(f"--single-tower-pairs {pairs} must be at least 1")
        torch.manual_seed(seed)
        self.model = (Blip() if kind == "blip" else Blip2()).eval()
        lengths = net_input["src_lengths"]
        self.queries = len(lengths)
        lengths = lengths[torch.arange(pairs) % self.queries].unsqueeze(1)
        place = torch.arange(int(lengths.max()))
        self.mask = (place < lengths).long()
        self.texts = torch.randint(1000, self.model.vocabulary - 10, self.mask.shape) * self.mask
        self.states = torch.randn(pairs, PATCHES[kind], self.model.width)

    def score(self) -> Tensor:
        """Compute (pairs,) log odds that text and picture match."""
        with torch.inference_mode():
            logits = self.model(self.texts, self.mask, self.states)
        return logits[:, 1] - logits[:, 0]

    def contender(self, name: str, items: int) -> Contender:
        """Return the contender, which runs one batch of pairs and reports the number of all pairs."""
        reads = SINGLE_TOWERS[name][1] or items
        pairs = self.queries * min(reads, items)

        def run() -> dict[str, Any]:
            start = time.perf_counter()
            self.score()
            return {
                "pair_seconds": (time.perf_counter() - start) / len(self.texts),
                "pairs": pairs,
                "measured_pairs": len(self.texts),
            }

        return Contender(name, run)


def extrapolated(row: dict[str, Any]) -> dict[str, Any]:
    """Scale the times of a single tower from the measured pairs to all pairs. Other rows are returned unchanged."""
    if "measured_pairs" not in row:
        return row
    scale = row["pairs"] / row["measured_pairs"]
    times = {key: row[key] * scale for key in ("median", "min", "max")}
    return {**row, **times, "seconds": [each * scale for each in row["seconds"]], "measured_seconds": row["seconds"]}
