"""Figures of calibrated probabilities: expected calibration error, and AUROC of present against absent items."""

import numpy as np
from numpy.typing import NDArray

BINS = 15
Numbers = NDArray[np.float64]


def calibration_error(probabilities: Numbers, right: NDArray[np.bool_]) -> float:
    """Expected calibration error (Naeini et al., 2015; Guo et al., 2017) over ``BINS`` bins of equal width.

    It is the mean, over all predictions, of the distance between the mean probability and the share of right predictions
    in the bin of each.

    Args:
        probabilities: (n,), in [0, 1].
        right: (n,), whether each prediction is right.

    Raises:
        ValueError: there is no prediction.

    >>> round(calibration_error(np.array([0.9, 0.9, 0.1]), np.array([True, False, False])), 3)
    0.3
    """
    if not len(probabilities):
        raise ValueError("there are no predictions to measure")
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    excess = np.bincount(place, weights=probabilities - right, minlength=BINS)
    return float(np.abs(excess).sum() / len(probabilities))


def auroc(positive: Numbers, negative: Numbers) -> float:
    """Area under the ROC curve: how often a positive example scores above a negative one; ties count half.

    Args:
        positive, negative: (p,) and (n,) scores.

    Raises:
        ValueError: there is no example of a kind.

    >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    0.875
    """
    if not len(positive) or not len(negative):
        raise ValueError("there are no examples of a kind to compare")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(negative)))
