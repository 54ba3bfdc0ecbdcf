"""Soft targets: equal to sums over items by hand, never of nothing, and made anew when they should be."""

import numpy as np
import pytest
import torch
from torch import nn

from cart_fairseq.training import distillation
from cart_fairseq.training.companions import Companions
from cart_fairseq.training.distillation import SoftTargets

IDENTIFIERS = torch.tensor([[4, 6, 8], [4, 6, 9], [4, 7, 8], [5, 6, 8], [5, 7, 8]])
ITEMS, SYMBOLS, SCALE = len(IDENTIFIERS), 10, 3.0


class Head(nn.Module):
    """A dense head whose vectors are what comes in; it counts how often it is asked for items."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def text(self, states):
        assert not self.training  # without dropout
        return states

    def item(self, features):
        self.asked += 1
        return features

    def scale(self):
        return torch.tensor(SCALE)


class Items:
    """Vectors of items, of whose captions each changes them; it keeps which were looked at."""

    def __init__(self):
        self.vectors = torch.randn(ITEMS + 1, 4, generator=torch.Generator().manual_seed(0))
        self.seen = []

    def training_features(self, rows, companions):
        self.seen.append(companions.tolist())
        return self.vectors[torch.from_numpy(rows)]


def soft_targets(items):
    rows = np.array([0, 1, 2, 4, 5])  # that of row 3 was removed
    owners = np.array([1, 0, 0, 0, 0, 4, 5, 1])
    companions = Companions(owners, np.arange(8) != 6)  # nothing is known of the caption of row 5
    return SoftTargets(items, companions, rows, IDENTIFIERS, SYMBOLS), rows


def test_a_symbol_gets_what_the_items_get_that_go_on_with_it():
    items, head = Items(), Head().train()
    teacher, rows = soft_targets(items)
    states, target = torch.randn(6, 4), IDENTIFIERS[torch.tensor([0, 1, 2, 3, 4, 0])]
    found = teacher(head, states, target, 1)
    assert head.training
    for query in range(6):
        probability = (states[query] @ items.vectors[torch.from_numpy(rows)].T * SCALE).softmax(0)
        for position in range(3):
            expected = torch.zeros(SYMBOLS)
            for item in range(ITEMS):
                if torch.equal(IDENTIFIERS[item, :position], target[query, :position]):
                    expected[IDENTIFIERS[item, position]] += probability[item]
            torch.testing.assert_close(found[query, position], expected / expected.sum())


def test_only_the_nearest_items_count_and_the_right_symbol_where_none_of_them_fits(monkeypatch):
    monkeypatch.setattr(distillation, "NEAREST", 1)
    items = Items()
    teacher, rows = soft_targets(items)
    states = 5 * items.vectors[torch.from_numpy(rows[[1]])]
    best = int((states @ items.vectors[torch.from_numpy(rows)].T).argmax())
    other = 3 if best < 3 else 0  # begins differently
    found = teacher(Head(), states, IDENTIFIERS[[other]], 1)[0]
    assert found.nonzero().tolist() == [
        [0, int(IDENTIFIERS[best, 0])],
        [1, int(IDENTIFIERS[other, 1])],
        [2, int(IDENTIFIERS[other, 2])],
    ]
    assert found[found > 0].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("epochs", "asked"), [([1] * 6, 2), ([1, 1, 2, 2, 2, 3], 3)])
def test_vectors_of_items_are_made_anew_after_some_updates_and_in_a_new_epoch(epochs, asked, monkeypatch):
    monkeypatch.setattr(distillation, "UPDATES", 4)
    teacher, _ = soft_targets(Items())
    head = Head()
    for epoch in epochs:
        teacher(head, torch.randn(1, 4), IDENTIFIERS[:1], epoch)
    assert head.asked == asked


def test_items_are_seen_with_one_caption_each_drawn_anew_with_their_vectors(monkeypatch):
    monkeypatch.setattr(distillation, "UPDATES", 1)
    items = Items()
    teacher, _ = soft_targets(items)
    for epoch in (1, 1, 1, 2, 2, 3, 3):
        teacher(Head(), torch.randn(1, 4), IDENTIFIERS[:1], epoch)
    first, second = (np.array(items.seen)[:, place] for place in (0, 1))
    assert set(first) <= {1, 2, 3, 4}
    assert len(set(first)) > 1
    assert set(second) == {0, 7}
    assert {tuple(rest) for rest in np.array(items.seen)[:, 2:].tolist()} == {(-1, 5, -1)}
    again = Items()
    teacher, _ = soft_targets(again)
    for _ in range(2):  # as training that goes on after an epoch
        teacher(Head(), torch.randn(1, 4), IDENTIFIERS[:1], 2)
    assert again.seen == items.seen[3:5]


@pytest.mark.parametrize("epochs", [[1] * 12, range(1, 13)])
def test_captions_are_drawn_anew_within_an_epoch_and_in_each(monkeypatch, epochs):
    monkeypatch.setattr(distillation, "UPDATES", 1)
    items = Items()
    teacher, _ = soft_targets(items)
    for epoch in epochs:
        teacher(Head(), torch.randn(1, 4), IDENTIFIERS[:1], epoch)
    assert len({seen[0] for seen in items.seen}) > 1
