"""Captions drawn from a model, each from random numbers of its own.

A caption's draws depend on the seed, its item and its number only: not on what else is in the batch, nor on what was
captioned before. So a run that was killed goes on as if it had not been.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from preprocess.captioners.settings import CaptionerSettings


class SeededDraws:
    """A logits processor of `transformers` that leaves only the token drawn, by nucleus sampling, for each row.

    Args:
        names: (item id, number of the caption) of each row.
        settings: temperature, top_p, seed and the most steps.
    """

    def __init__(self, names: Sequence[tuple[str, int]], settings: CaptionerSettings):
        self.temperature = settings.temperature
        self.top_p = settings.top_p
        steps = settings.max_new_tokens
        draws = [random_numbers(settings.seed, item_id, number, steps) for item_id, number in names]
        self.draws = torch.from_numpy(np.stack(draws))
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, vocabulary) logits -> the same shape, 0 at the token drawn and -inf elsewhere."""
        draws = self.draws[:, self.step : self.step + 1].to(scores.device)
        self.step += 1
        ordered, tokens = torch.sort(scores.float() / self.temperature, dim=-1, descending=True, stable=True)
        mass = torch.softmax(ordered.double(), dim=-1).cumsum(-1)
        # The nucleus is the smallest set of best tokens with at least top_p of the mass.
        last = torch.searchsorted(mass, torch.full_like(draws, self.top_p)).clamp(max=mass.shape[-1] - 1)
        chosen = torch.searchsorted(mass, draws * mass.gather(-1, last), right=True).clamp(max=last)
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens.gather(-1, chosen), 0.0)


def random_numbers(seed: int, item_id: str, number: int, count: int) -> np.ndarray:
    """(count,) float64 in [0, 1) for the draws of one caption of one item."""
    name = int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:16], "little")
    return np.random.default_rng([seed, name, number]).random(count)


def draw(
    model: Any, inputs: dict[str, Any], names: Sequence[tuple[str, int]], per_input: int, settings: CaptionerSettings
) -> torch.Tensor:
    """Draw token sequences.

    Args:
        model: whose `generate` is called.
        inputs: its arguments, a batch of n.
        names: (item id, number of the caption) of the n × `per_input` captions, those of one input together.
        per_input: captions an input.

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
    """Consecutive groups of `size` texts.

    >>> grouped(["a", "b", "c", "d"], 2)
    [['a', 'b'], ['c', 'd']]
    """
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]
