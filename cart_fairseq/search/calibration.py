"""Calibrated probabilities: how likely each hit is the wanted item, and how likely it is that nothing fits.

With s_i the score of the i-th hit and n the number of candidates of the query,

    m(a)     = log sum_j exp(a x s_j), over the HITS best items
    presence = sigmoid(offset + gain x m(peak) + size x log n), the probability that the wanted item is among the candidates
    p_i      = presence x exp(slope x s_i - m(slope))

so hits keep their order, and 1 - presence is the probability that nothing fits. In a larger catalogue more items score
high by chance; log n accounts for that. All parameters are fitted on queries with the wanted item among the candidates,
and on the same queries with it taken away. The paper has no such probabilities.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from cart_fairseq.base.checks import is_number, short
from cart_fairseq.base.settings import CALIBRATION_PARAMETERS, SCORINGS

HITS = 30
"""Number of best items whose scores count."""
LEAST_QUERIES = 20
"""Fewest queries, with the wanted item found, for which parameters are fitted."""
SUBSET = 0.125
"""Share of the candidates in the smaller sets from which ``size`` is learned."""
PEAKS = (1.0, 1.5, 2.0, 3.0, 4.0)
"""What ``peak`` may be, in multiples of the slope."""


class Calibration(NamedTuple):
    """Parameters of the probabilities, see the module.

    Attributes:
        slope: factor of the scores for a hit's share of the presence, above 0.
        peak: factor of the scores for the presence, above 0. The larger, the more the best hit counts.
        offset, gain, size: weights of the presence.
        scoring: the scoring of symbols for which they hold, one of :data:`~cart_fairseq.base.settings.SCORINGS`.
    """

    slope: float
    peak: float
    offset: float
    gain: float
    size: float
    scoring: str

    @classmethod
    def of(cls, models: Sequence[Any]) -> "Calibration | None":
        """The mean of the models' own parameters; None if a model has none, or they hold for different scorings."""
        rows = [getattr(model, "calibration", torch.zeros(CALIBRATION_PARAMETERS)).tolist() for model in models]
        slopes, scorings = [row[0] for row in rows], {row[-1] for row in rows}
        if min(slopes) <= 0 or len(scorings) > 1:
            return None
        slope, peak, offset, gain, size, scoring = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        return cls(slope, peak, offset, gain, size, SCORINGS[int(scoring)])

    def stored(self) -> list[float]:
        """The values of a model's buffer ``calibration``."""
        return [*self[:-1], float(SCORINGS.index(self.scoring))]

    def probabilities(self, scores: Tensor, candidates: Tensor) -> Tensor:
        """Compute the probability of each hit.

        Args:
            scores: (B, K), best first; -inf marks an unused entry.
            candidates: (B,), the number of candidates of each query.

        Returns:
            (B, K) float64, not ascending in a row; 0 for unused entries. Those of the ``HITS`` best sum to the
            presence.
        """
        scores = scores.double()
        weights = torch.tensor([self.offset, self.gain, self.size], dtype=torch.float64, device=scores.device)
        presence = (_features(scores, candidates, self.peak) @ weights).sigmoid()
        mass = log_mass(scores, self.slope)
        found = presence.unsqueeze(1) * (self.slope * scores - mass.unsqueeze(1)).exp()
        return found.nan_to_num(0.0)  # of a query without hits


def calibration_of(
    models: Sequence[Any],
    scoring: str,
    dense_weight: float | None = None,
    level_discount: float | None = None,
    prior_share: float | None = None,
    beam: int = HITS,
) -> Calibration | None:
    """The calibration of a search with these models and options; None for the models' own options.

    Returns:
        None if a model is not calibrated, an option is another than that for which it is, or the beam is too narrow for the
        hits whose scores count.
    """
    found = Calibration.of(models)
    if found is None or found.scoring != scoring or beam < HITS:
        return None
    heads = [model.dense for model in models]
    own: list[tuple[float | None, Any]] = [(level_discount, [model.level_discount for model in models])]
    if all(head is not None for head in heads):
        own += [(dense_weight, [head.weight for head in heads]), (prior_share, [head.prior_share for head in heads])]
    for given, values in own:
        if given is not None and not math.isclose(given, sum(map(float, values)) / len(values), rel_tol=1e-5):
            return None
    return found


def check_at_least(at_least: Any, calibration: Calibration | None, without: int | None) -> None:
    """Check the least probability of hits that a search is asked for.

    Args:
        at_least: the probability.
        calibration: that of the search.
        without: the position of the first query whose hits have no probabilities; None if there is none.

    Raises:
        ValueError: it is not between 0 and 1, or hits have no probabilities.
    """
    if not (is_number(at_least) and 0 <= at_least <= 1):
        raise ValueError(f"at_least is {short(at_least)}; it must be a probability between 0 and 1")
    if calibration is None:
        raise ValueError(
            f"at_least is {short(at_least)}, but hits have no probabilities: the model is not calibrated, or not for these "
            f"options of the search, of which a beam below {HITS} is one; run python -m cart_fairseq.tune and leave out other "
            "options, or leave out at_least"
        )
    if without is not None:
        raise ValueError(
            f"at_least is {short(at_least)}, but query {without} is not one text, and its hits have no probabilities; leave out "
            "at_least"
        )


def fit(
    scores: Tensor,
    wanted: Tensor,
    candidates: Tensor,
    scoring: str,
    seed: int = 0,
    among: Callable[[Tensor], Tensor] | None = None,
) -> Calibration | None:
    """Fit the parameters by maximum likelihood.

    Args:
        scores: (Q, K), best first; -inf marks an unused entry. K should be several times ``HITS``.
        wanted: (Q,) int64, the place of each query's right item among the K; -1 if it was not found.
        candidates: (Q,), the number of candidates of each query.
        scoring: how symbols were scored.
        seed: of the choice of smaller candidate sets.
        among: computes the scores (Q, K) of the same items where only those that are True in a mask (Q, K) are candidates;
            -inf for others. None: the scores stay what they are.

    Returns:
        The parameters; None if fewer than ``LEAST_QUERIES`` queries found their item.
    """
    scores, wanted = scores.double(), wanted.long()
    found = (wanted >= 0) & (wanted < HITS)
    if int(found.sum()) < LEAST_QUERIES:
        return None
    slope = _fit_slope(scores[found, :HITS], wanted[found])
    among = among or (lambda mask: scores.masked_fill(~mask, -math.inf))
    sets = [*_example_sets(among, scores.shape, wanted, candidates.double(), seed)]
    labels = torch.cat([found if present else torch.zeros_like(found) for present, _, _ in sets]).double()
    there = torch.cat([best[:, 0].isfinite() for _, best, _ in sets])  # a query whose only hit is taken away has none
    fits = []
    for peak in [slope * multiple for multiple in PEAKS]:
        rows = torch.cat([_features(best, sizes, peak) for _, best, sizes in sets])
        fits.append((*_fit_presence(rows[there], labels[there]), peak))
    _, weights, peak = min(fits, key=lambda each: each[0])
    offset, gain, size = weights.tolist()
    return Calibration(slope, peak, offset, gain, size, scoring)


def log_mass(scores: Tensor, factor: float) -> Tensor:
    """log sum exp(factor x score) over the ``HITS`` best of scores (B, K), best first: (B,)."""
    return (factor * scores[:, :HITS]).logsumexp(1)


def _features(scores: Tensor, candidates: Tensor, peak: float) -> Tensor:
    """What the presence is computed from: scores (B, K) float64, best first, and numbers of candidates (B,) -> (B, 3)."""
    mass = log_mass(scores, peak)
    return torch.stack([torch.ones_like(mass), mass, candidates.to(mass).log()], 1)


def _example_sets(
    among: Callable[[Tensor], Tensor], shape: torch.Size, wanted: Tensor, candidates: Tensor, seed: int
) -> Iterator[tuple[bool, Tensor, Tensor]]:
    """Yield whether the wanted item is there, the scores of the ``HITS`` best (Q, H), and the numbers of candidates (Q,).

    The whole candidate sets and subsets of them, each with the wanted item and without.
    """
    right = torch.arange(shape[1]) == wanted.unsqueeze(1)
    kept = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < SUBSET
    for chosen, share in ((torch.ones_like(right), 1.0), (kept | right, SUBSET)):
        for present in (True, False):
            mask = chosen if present else chosen & ~right
            best = among(mask).double().topk(min(HITS, shape[1]), dim=1).values
            yield present, best, (candidates * share).clamp(min=1)


def _fit_slope(scores: Tensor, wanted: Tensor) -> float:
    """The slope in [0.001, 10] whose softmax over (Q, K) scores gives the right places (Q,) the highest likelihood."""
    slopes = torch.logspace(-3, 1, 401, dtype=torch.float64)
    losses = [cross_entropy(slope * scores, wanted) for slope in slopes]
    return float(slopes[int(torch.stack(losses).argmin())])


def _fit_presence(rows: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Logistic regression: rows (R, 3) and labels (R,), both float64 -> its loss and the 3 weights.

    A normal prior of deviation 1 around (0, 1, -1), at which the mean of exp(score) over the candidates decides, keeps
    weights finite where few queries separate the labels.
    """
    centre = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
    weights = centre.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        likelihood = binary_cross_entropy_with_logits(rows @ weights, labels, reduction="sum")
        total = (likelihood + (weights - centre).square().sum() / 2) / len(rows)
        total.backward()
        return total

    with torch.enable_grad():
        optimiser.step(loss)
        return float(loss().detach()), weights.detach()
