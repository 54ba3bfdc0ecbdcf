"""Seeded nucleus sampling: the right distribution, and draws that depend on nothing but seed, item and number."""

import numpy as np
import pytest
import torch

from preprocess.captioners.drawing import SeededDraws, random_numbers
from preprocess.captioners.settings import CaptionerSettings

PROBABILITIES = torch.tensor([0.05, 0.5, 0.15, 0.3])


def drawn(rows: int, **settings) -> torch.Tensor:
    """Tokens of a first step over `PROBABILITIES`, one a row."""
    draws = SeededDraws([("item", number) for number in range(rows)], CaptionerSettings(**settings))
    scores = draws(torch.zeros(rows, 1, dtype=torch.long), PROBABILITIES.log().repeat(rows, 1))
    assert (scores > -torch.inf).sum(-1).tolist() == [1] * rows
    return scores.argmax(-1)


@pytest.mark.parametrize(
    ("top_p", "temperature", "expected"),
    [
        (1.0, 1.0, [0.05, 0.5, 0.15, 0.3]),
        (0.7, 1.0, [0, 0.625, 0, 0.375]),  # the two best have 0.8 of the mass, the best alone too little
        (0.4, 1.0, [0, 1, 0, 0]),
        (1.0, 0.5, [0.0025 / 0.365, 0.25 / 0.365, 0.0225 / 0.365, 0.09 / 0.365]),
    ],
)
def test_frequencies_are_those_of_nucleus_sampling(top_p, temperature, expected):
    found = torch.bincount(drawn(4000, top_p=top_p, temperature=temperature), minlength=4) / 4000
    np.testing.assert_allclose(found, expected, atol=0.025)


def test_a_row_does_not_depend_on_the_others():
    settings = CaptionerSettings(max_new_tokens=6)
    names = [("a", 0), ("b", 0), ("b", 1)]
    logits = torch.randn(6, 3, 11, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(3, 1, dtype=torch.long)
    together, alone = SeededDraws(names, settings), SeededDraws(names[2:], settings)
    for step in range(6):
        assert torch.equal(together(nothing, logits[step])[2:], alone(nothing[2:], logits[step, 2:]))


def test_items_captions_and_steps_have_draws_of_their_own():
    draws = SeededDraws([("a", 0), ("b", 0), ("a", 1)], CaptionerSettings(max_new_tokens=20, top_p=1.0))
    flat = torch.zeros(3, 50)
    found = torch.stack([draws(torch.zeros(3, 1, dtype=torch.long), flat).argmax(-1) for _ in range(20)])
    assert all(len(set(row)) > 10 for row in found.T.tolist())
    assert len({tuple(row) for row in found.T.tolist()}) == 3


def test_seed_item_number_and_step_change_the_random_numbers():
    base = random_numbers(1, "item", 0, 5)
    assert len(set(base)) == 5
    for other in ((2, "item", 0), (1, "other", 0), (1, "item", 1)):
        assert not np.isin(random_numbers(*other, 5), base).any()
    assert np.array_equal(base, random_numbers(1, "item", 0, 5))
