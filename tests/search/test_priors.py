"""Priors equal a slow computation in double precision; an item's own captions have no part in its prior."""

import math

import numpy as np
import pytest
import torch

from cart_fairseq.search.dense import priors
from cart_fairseq.search.dense.priors import QueryBank, bank_captions, item_priors


def bank_of(queries: int, items: int, width: int = 5, seed: int = 0) -> tuple[QueryBank, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(queries, width, generator=draw) * 4
    rows = torch.randint(items, (queries,), generator=draw)
    return QueryBank(vectors, rows), torch.randn(items, width, generator=draw)


@pytest.mark.parametrize("block", [1, 4, 8192])
def test_priors_equal_a_slow_reference(monkeypatch, block):
    monkeypatch.setattr(priors, "BLOCK", block)
    bank, table = bank_of(30, 7)
    found = item_priors(bank, lambda rows: table[rows], torch.tensor([6, 0, 3, 3]))
    for item, prior in zip([6, 0, 3, 3], found.tolist(), strict=True):
        others = [q for q in range(30) if int(bank.rows[q]) != item]
        exact = [math.exp(float(bank.vectors[q].double() @ table[item].double())) for q in others]
        assert prior == pytest.approx(math.log(sum(exact) / len(exact)), rel=1e-5)


def test_an_items_own_captions_have_no_part_in_its_prior():
    bank, table = bank_of(30, 7)
    before = item_priors(bank, lambda rows: table[rows], torch.arange(7))
    own = bank.rows == 2
    changed = bank._replace(vectors=torch.where(own.unsqueeze(1), bank.vectors * 3, bank.vectors))
    after = item_priors(changed, lambda rows: table[rows], torch.arange(7))
    assert after[2] == before[2]
    assert (after != before).sum() == 6


def test_an_item_that_every_stored_query_describes_has_the_mean_of_the_others():
    bank, table = bank_of(4, 3)
    bank = bank._replace(rows=torch.tensor([1, 1, 1, 1]))
    found = item_priors(bank, lambda rows: table[rows], torch.arange(3))
    assert found[1] == found[[0, 2]].mean()
    alone = item_priors(bank, lambda rows: table[rows], torch.tensor([1]))
    assert alone.tolist() == [0.0]
    assert len(item_priors(bank, lambda rows: table[rows], torch.tensor([], dtype=torch.int64))) == 0


def test_the_bank_holds_training_captions_and_no_index_captions():
    roles = np.array(["train", "index"] * 50, dtype=object)
    chosen = bank_captions(roles, 20)
    assert len(set(chosen.tolist())) == 20
    assert (roles[chosen] == "train").all()
    assert (chosen == bank_captions(roles, 20)).all()
    assert len(bank_captions(roles, 80)) == 50
    assert len(bank_captions(np.array(["index"] * 9, dtype=object))) == 9
