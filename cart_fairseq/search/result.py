"""What a search finds, and the score of an identifier whose later symbols count less."""

from typing import NamedTuple

import torch
from torch import Tensor


class SearchResult(NamedTuple):
    """The K best items of B queries, best first; K is the beam, or the number of candidates where that is smaller.

    Attributes:
        rows: (B, K) int64 item rows.
        scores: (B, K) float32, the sum of the identifier's natural-log probabilities, discounted by level, plus what a
            dense head adds; -inf marks an empty place.
        tokens: (B, K, J) int64 identifiers in symbols of the target dictionary.
        token_scores: (B, K, J) float32, each symbol's natural-log probability.
    """

    rows: Tensor
    scores: Tensor
    tokens: Tensor
    token_scores: Tensor

    def cpu(self) -> "SearchResult":
        """The same on the CPU, in one copy from the device."""
        whole = torch.cat([self.rows.unsqueeze(2), self.tokens], 2)
        parts = torch.cat([self.scores.unsqueeze(2), self.token_scores], 2).double().view(torch.int64)
        integers, floats = torch.stack([whole, parts]).cpu().unbind(0)
        fractions = floats.view(torch.float64).float()
        return SearchResult(integers[..., 0], fractions[..., 0], integers[..., 1:], fractions[..., 1:])


def check_discount(discount: float) -> None:
    """Refuse a discount that is not in (0, 1].

    Raises:
        ValueError: it is out of range.
    """
    if not 0 < discount <= 1:
        raise ValueError(f"--level-discount is {discount}; it must be above 0 and at most 1")


def discounted(token_scores: Tensor, discount: float) -> Tensor:
    """The sum of an identifier's symbol scores, where each counts ``discount`` times what the one before it does.

    Later symbols are written less surely than the model thinks: residual codes say little that words do.

    Args:
        token_scores: (…, J).

    Returns:
        (…), of the same type.

    >>> discounted(torch.tensor([-1.0, -2.0, -4.0]), 0.5)
    tensor(-3.)
    """
    levels = torch.arange(token_scores.size(-1), device=token_scores.device)
    return (token_scores * discount**levels).sum(-1)
