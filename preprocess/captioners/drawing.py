"""Sample captions from a model, with separate random numbers for each caption.

The random numbers of a caption depend only on the seed, its item and its number. They do not depend on the rest of the
batch or on earlier captions. A continued run therefore gives the same captions as an uninterrupted one.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from preprocess.captioners.settings import CaptionerSettings


class SeededDraws:
    """A logits processor of `transformers` that samples a token for each row by nucleus sampling.

    Args:
        names: (item id, number of the caption) of each row.
        settings: temperature, top_p, seed and the maximum number of tokens.
    """

    def __init__(self, names: Sequence[tuple[str, int]], settings: CaptionerSettings):
        self.temperature = settings.temperature
        self.top_p = settings.top_p
        steps = settings.max_new_tokens
        draws = [random_numbers(settings.seed, item_id, number, steps) for item_id, number in names]
        self.draws = torch.from_numpy(np.stack(draws))
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, vocabulary) logits -> the same shape, 0 for the sampled token and -inf for the others."""
        draws = self.draws[:, self.step : self.step + 1].to(scores.device)
        self.step += 1
        ordered, tokens = torch.sort(scores.float() / self.temperature, dim=-1, descending=True, stable=True)
        mass = torch.softmax(ordered.double(), dim=-1).cumsum(-1)
        # the nucleus is the smallest set of most probable tokens whose probabilities sum to at least top_p
        last = torch.searchsorted(mass, torch.full_like(draws, self.top_p)).clamp(max=mass.shape[-1] - 1)
        chosen = torch.searchsorted(mass, draws * mass.gather(-1, last), right=True).clamp(max=last)
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens.gather(-1, chosen), 0.0)


def random_numbers(seed: int, item_id: str, number: int, count: int) -> np.ndarray:
    """Return (count,) float64 in [0, 1), the random numbers of one caption of one item."""
    name = int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:16], "little")
    return np.random.default_rng([seed, name, number]).random(count)


def draw(
    model: Any, inputs: dict[str, Any], names: Sequence[tuple[str, int]], per_input: int, settings: CaptionerSettings
) -> torch.Tensor:
    """Sample token sequences.

    Args:
        model: a model with `generate`.
        inputs: the arguments of `generate`, a batch of n.
        names: (item id, number of the caption) of the n × `per_input` captions, ordered by input.
        per_input: captions per input.

    Returns:
        (n × per_input, tokens) int64, as `generate` returns them.
    """
    with torch.inference_mode():
        return model.generate(
            **inputs,
            do_sample=True,
            num_beams=1,
            num_return_sequences=per_input,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=settings.max_new_tokens,
            logits_processor=[SeededDraws(names, settings)],
        )


def grouped(texts: Sequence[str], size: int) -> list[list[str]]:
    """Split texts into consecutive groups of `size`.

    >>> grouped(["a", "b", "c", "d"], 2)
    [['a', 'b'], ['c', 'd']]
    """
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]
