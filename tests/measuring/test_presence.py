"""Figures of probabilities: by hand, and equal to scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cart_fairseq.measuring.presence import BINS, auroc, calibration_error

SHARES = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]), min_size=1, max_size=20)


def test_calibration_error_by_hand():
    probabilities = np.array([0.5, 0.5, 0.5, 0.5, 1.0, 0.0])
    right = np.array([True, True, True, False, True, False])
    assert calibration_error(probabilities, right) == pytest.approx(4 / 6 * 0.25)
    assert calibration_error(np.array([1.0]), np.array([False])) == 1.0
    with pytest.raises(ValueError, match="no predictions"):
        calibration_error(np.array([]), np.array([], dtype=bool))


@given(SHARES, st.integers(0, 99))
def test_calibration_error_equals_a_slow_one(shares, seed):
    probabilities = np.array(shares)
    right = np.random.default_rng(seed).random(len(shares)) < 0.5
    slow = 0.0
    for low in range(BINS):
        inside = [i for i, p in enumerate(shares) if min(int(p * BINS), BINS - 1) == low]
        if inside:
            slow += len(inside) / len(shares) * abs(probabilities[inside].mean() - right[inside].mean())
    assert calibration_error(probabilities, right) == pytest.approx(slow)


@given(SHARES, SHARES)
def test_auroc_equals_scikit_learns(positive, negative):
    labels = [1] * len(positive) + [0] * len(negative)
    expected = roc_auc_score(labels, positive + negative)
    assert auroc(np.array(positive), np.array(negative)) == pytest.approx(expected)


def test_auroc_needs_examples_of_both_kinds():
    some, none = np.array([0.5]), np.array([])
    for kinds in ((none, some), (some, none)):
        with pytest.raises(ValueError, match="no examples of a kind"):
            auroc(*kinds)
