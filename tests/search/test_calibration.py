"""Probabilities of hits: their formula, their order, and that fitted ones are right as often as they say."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cart_fairseq.measuring.presence import calibration_error
from cart_fairseq.search import calibration as module
from cart_fairseq.search.calibration import HITS, Calibration, calibration_of, check_at_least, fit

NONE = float("-inf")
MADE = Calibration(0.5, 1.0, 0.25, 2.0, -0.5, "masked")


def model(values=(0.0,) * 6, weight=None):
    """What a calibration reads of a model."""
    head = None if weight is None else SimpleNamespace(weight=torch.tensor(weight), prior_share=torch.tensor(0.5))
    return SimpleNamespace(calibration=torch.tensor(values), level_discount=torch.tensor(0.9), dense=head)


def test_probabilities_are_those_of_the_formula():
    found = MADE.probabilities(torch.tensor([[3.0, 1.0, NONE], [-2.0, NONE, NONE]]), torch.tensor([8, 1]))
    for row, scores, size in ((0, [3.0, 1.0], 8), (1, [-2.0], 1)):
        peak = math.log(sum(math.exp(s) for s in scores))
        presence = 1 / (1 + math.exp(-(0.25 + 2 * peak - 0.5 * math.log(size))))
        shares = [math.exp(0.5 * s) / sum(math.exp(0.5 * other) for other in scores) for s in scores]
        assert found[row].tolist() == pytest.approx([presence * s for s in shares] + [0.0] * (3 - len(scores)))


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=2 * HITS), st.integers(1, 10**9))
def test_hits_keep_their_order_and_sum_to_the_presence(scores, size):
    ordered = torch.tensor(sorted(scores, reverse=True)).unsqueeze(0)
    found = MADE.probabilities(ordered, torch.tensor([size]))[0]
    assert bool((found.diff() <= 0).all())
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    weaker = MADE.probabilities(ordered, torch.tensor([2 * size]))[0]
    assert bool((weaker <= found).all())
    assert float(found[:HITS].sum()) <= 1 + 1e-9


def test_a_query_without_hits_has_no_probability():
    assert MADE.probabilities(torch.full((1, 3), NONE), torch.tensor([5])).tolist() == [[0.0] * 3]


def draw(queries, generator, candidates=400):
    """Scores (Q, 200), best first, and the place of the right item: its score is higher by 3 in the mean."""
    scores = torch.randn(queries, candidates, generator=generator) * 2 + torch.randn(queries, 1, generator=generator)
    scores[:, 0] += 6
    scores, order = scores.sort(1, descending=True)
    place = (order == 0).int().argmax(1)
    return scores[:, :200], torch.where(place < 200, place, -1)


@pytest.mark.parametrize("seed", range(3))
def test_fitted_probabilities_are_right_as_often_as_they_say(seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.full((3000,), 400)
    known, places = draw(3000, generator)
    fitted = fit(known, places, sizes, "masked", seed)
    assert fitted is not None
    assert fitted.slope > 0
    for candidates in (400, 2000):  # sets of other sizes, too
        scores, place = draw(3000, generator, candidates)
        absent = torch.where(torch.arange(200) == place.unsqueeze(1), NONE, scores).sort(1, descending=True).values
        both = [fitted.probabilities(each, torch.full((3000,), candidates))[:, 0] for each in (scores, absent)]
        right = torch.cat([place == 0, torch.zeros(3000, dtype=torch.bool)])
        assert 0.1 < float(right.double().mean()) < 0.5
        assert calibration_error(torch.cat(both).numpy(), right.numpy()) < 0.04


def test_separable_and_few_examples_have_finite_parameters():
    scores = torch.tensor([[50.0, 1.0, 0.0, NONE]]).expand(40, -1)
    found = fit(scores, torch.zeros(40), torch.full((40,), 3), "masked")
    assert found is not None
    assert np.isfinite(found[:-1]).all()
    assert float(found.probabilities(scores, torch.full((40,), 3))[0, 0]) > 0.9
    assert fit(scores[:19], torch.zeros(19), torch.full((19,), 3), "masked") is None
    assert fit(scores, torch.full((40,), -1), torch.full((40,), 3), "masked") is None
    assert fit(torch.tensor([[1.0]]).expand(40, -1), torch.zeros(40), torch.ones(40), "masked") is not None  # one item


def test_an_ensemble_has_the_mean_of_its_members():
    first, second = MADE.stored(), Calibration(1.5, 2.0, 0.75, 1.0, -1.5, "masked").stored()
    assert Calibration.of([model(first), model(second)]) == pytest.approx((1.0, 1.5, 0.5, 1.5, -1.0, "masked"))
    other = MADE._replace(scoring="renormalised").stored()
    assert Calibration.of([model(other)]) == MADE._replace(scoring="renormalised")
    assert Calibration.of([model(first), model(other)]) is None
    assert Calibration.of([model(first), model()]) is None


def test_other_options_of_the_search_have_no_calibration():
    given = [model(MADE.stored(), weight=2.0)]
    same: list[dict[str, Any]] = [{}, {"dense_weight": 2.0}, {"level_discount": 0.9}, {"prior_share": 0.5}]
    others: list[dict[str, Any]] = [
        {"dense_weight": 0},
        {"dense_weight": 3.0},
        {"level_discount": 1},
        {"prior_share": 0.25},
    ]
    assert all(calibration_of(given, "masked", **options) == MADE for options in same)
    assert all(calibration_of(given, "masked", **options) is None for options in others)
    assert calibration_of(given, "renormalised") is None
    assert calibration_of(given, "masked", beam=HITS) == MADE
    assert calibration_of(given, "masked", beam=HITS - 1) is None  # the sum over hits would lack some
    assert calibration_of([model(MADE.stored())], "masked", dense_weight=0) == MADE  # there is no dense score


def test_what_cannot_be_a_least_probability_is_refused():
    check_at_least(0, MADE, None)
    check_at_least(1.0, MADE, None)
    for wrong in (-0.1, 1.5, float("nan"), "0.2", True):
        with pytest.raises(ValueError, match=r"at_least is .*; it must be a probability between 0 and 1"):
            check_at_least(wrong, MADE, None)
    with pytest.raises(ValueError, match=r"the model is not calibrated.*run python -m cart_fairseq\.tune"):
        check_at_least(0.2, None, None)
    with pytest.raises(ValueError, match="query 3 is not one text"):
        check_at_least(0.2, MADE, 3)


def test_the_stored_values_are_as_many_as_the_buffer_has():
    assert len(MADE.stored()) == module.CALIBRATION_PARAMETERS
