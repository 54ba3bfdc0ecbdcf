"""The result of a search, and the level discount of identifier scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class SearchResult(NamedTuple):
    """The K best items of B queries, best first. K is the beam width, or the number of candidates if that is smaller.

    Attributes:
        rows: (B, K) int64 item rows.
        scores: (B, K) float32, the discounted sum of the symbols' natural-log probabilities plus the weighted dense
            score; -inf marks an unused entry.
        tokens: (B, K, J) int64 identifiers in symbols of the target dictionary.
        token_scores: (B, K, J) float32, each symbol's natural-log probability.
    """

    rows: Tensor
    scores: Tensor
    tokens: Tensor
    token_scores: Tensor

    def refuse_nothing(self, queries: Sequence[int]) -> None:
        """Raise if a query has no item, or one without a score; every search has at least one candidate.

        Args:
            queries: the queries' numbers, for the message.

        Raises:
            ValueError: the model's scores are not finite.
        """
        wrong = (self.scores == float("-inf")).all(1) | self.scores.isnan().any(1)
        if wrong.any():
            query = queries[int(wrong.int().argmax())]
            raise ValueError(
                f"query {query}: the model's scores are not finite, so its weights are damaged or too large for the "
                "precision; search with precision float32, or train again"
            )

    def best(self, most: int) -> "SearchResult":
        """Sort each query's items by their scores, and keep the ``most`` best."""
        return self.ordered(self.scores.sort(dim=1, descending=True, stable=True).indices[:, :most])

    def ordered(self, order: Tensor) -> "SearchResult":
        """Take each query's items in the order (B, K) int64 of their places."""
        deep = order.unsqueeze(2).expand(-1, -1, self.tokens.size(2))
        return SearchResult(
            self.rows.gather(1, order),
            self.scores.gather(1, order),
            self.tokens.gather(1, deep),
            self.token_scores.gather(1, deep),
        )

    def joined(self, other: "SearchResult") -> "SearchResult":
        """Append the items of another search for the same queries to each query's."""
        return SearchResult(*(torch.cat(columns, 1) for columns in zip(self, other, strict=True)))

    def only(self, queries: Tensor) -> "SearchResult":
        """Mark all entries of the queries that are False in (B,) bool as unused."""
        return self._replace(scores=self.scores.masked_fill(~queries.unsqueeze(1), float("-inf")))

    def cpu(self) -> "SearchResult":
        """Copy the result to the CPU in one transfer."""
        whole = torch.cat([self.rows.unsqueeze(2), self.tokens], 2)
        parts = torch.cat([self.scores.unsqueeze(2), self.token_scores], 2).double().view(torch.int64)
        integers, floats = torch.stack([whole, parts]).cpu().unbind(0)
        fractions = floats.view(torch.float64).float()
        return SearchResult(integers[..., 0], fractions[..., 0], integers[..., 1:], fractions[..., 1:])


def discounted(token_scores: Tensor, discount: float) -> Tensor:
    """Sum an identifier's symbol scores with weights discount^(j - 1) for the j-th symbol.

    The model is overconfident in later symbols, because residual codes have little relation to words.

    Args:
        token_scores: (…, J) natural-log probabilities.
        discount: gamma, in (0, 1].

    Returns:
        (…), of the same dtype.

    >>> discounted(torch.tensor([-1.0, -2.0, -4.0]), 0.5)
    tensor(-3.)
    """
    levels = torch.arange(token_scores.size(-1), device=token_scores.device)
    return (token_scores * discount**levels).sum(-1)


def own_discount(models: Sequence[Any]) -> float:
    """Return the mean of the models' own level discounts.

    On a GPU the call waits for the device; call it once for several searches.
    """
    return sum(float(getattr(model, "level_discount", 1.0)) for model in models) / len(models)
