"""The single tower of the paper's Table 1: a cross-encoder, which reads each query together with each picture.

The model is BLIP's image-text matching model in its real size with random weights. The time does not include encoding
the pictures (577 patches of width 768), which favours it. In half precision, the states of 1M pictures take 0.9 TB.

All pairs of a large catalogue would take too long. A batch of pairs is timed, and the time is multiplied, because every
pair costs the same. The tables give the number of measured pairs.
"""

import time
from typing import Any

import torch
from timing import Contender
from torch import Tensor, nn

from cart_fairseq.libraries import hide_broken_torchaudio

PATCHES = 577  # of a picture of 384 x 384, including the class token
RERANKED = 128
SINGLE_TOWERS = {"blip": None, f"blip-{RERANKED}": RERANKED}  # contender -> candidates per query; None: all


class CrossEncoder:
    """BLIP's text encoder with cross-attention, its matching head, and a batch of pairs to time.

    Args:
        net_input: the batch of queries. The texts have the same lengths.
        pairs: number of pairs to time.

    Raises:
        ValueError: the number is below 1.
    """

    def __init__(self, net_input: dict[str, Tensor], pairs: int, seed: int):
        hide_broken_torchaudio()
        from transformers import BlipTextConfig
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        if pairs < 1:
            raise ValueError(f"--single-tower-pairs {pairs} must be at least 1")
        torch.manual_seed(seed)
        config = BlipTextConfig()
        self.encoder: Any = BlipTextModel(config, add_pooling_layer=False).eval()
        self.head = nn.Linear(config.hidden_size, 2).eval()
        lengths = net_input["src_lengths"]
        self.queries = len(lengths)
        lengths = lengths[torch.arange(pairs) % self.queries].unsqueeze(1)
        place = torch.arange(int(lengths.max()))
        self.mask = (place < lengths).long()
        self.texts = torch.randint(1000, config.vocab_size - 10, self.mask.shape) * self.mask
        self.states = torch.randn(pairs, PATCHES, config.encoder_hidden_size)

    def score(self) -> Tensor:
        """Compute (pairs,) log odds that text and picture match."""
        with torch.inference_mode():
            read = self.encoder(
                input_ids=self.texts, attention_mask=self.mask, encoder_hidden_states=self.states
            ).last_hidden_state
            logits = self.head(read[:, 0])
        return logits[:, 1] - logits[:, 0]

    def contender(self, name: str, items: int) -> Contender:
        """Return the contender, which runs one batch of pairs and reports the number of all pairs."""
        reads = SINGLE_TOWERS[name] or items
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
