"""recall@k and MRR@k against hand-computed cases and against ranx."""

import numpy as np
import pytest
import torch

from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts, ranks_of


def test_hand_computed() -> None:
    ranks = torch.tensor([1, 2, 0, 5, 6, 10, 11, 1])
    measured = metrics_from_counts(metric_counts(ranks))
    assert measured["recall_at_1"] == pytest.approx(25.0)
    assert measured["recall_at_5"] == pytest.approx(50.0)
    assert measured["recall_at_10"] == pytest.approx(75.0)
    assert measured["mrr_at_10"] == pytest.approx(100 * (1 + 1 / 2 + 1 / 5 + 1 / 6 + 1 / 10 + 1) / 8)


def test_ranks_of_finds_the_first_match_and_ignores_padding() -> None:
    retrieved = torch.tensor([[4, 2, 4], [1, -1, -1], [-1, -1, -1], [0, 9, 8]])
    assert ranks_of(retrieved, torch.tensor([4, 3, 0, 8])).tolist() == [1, 0, 0, 3]
    assert ranks_of(torch.empty(2, 0, dtype=torch.int64), torch.tensor([1, 2])).tolist() == [0, 0]
    assert ranks_of(retrieved, torch.tensor([4, 3, 0, 8])).dtype == torch.int64


@pytest.mark.parametrize("parts", [[20], [1, 19], [7, 6, 7], [0, 20]])
def test_counts_add_up_over_unequal_batches(parts: list[int]) -> None:
    ranks = torch.tensor([1, 0, 3, 12, 10, 5, 2, 2, 0, 1, 6, 7, 8, 9, 1, 0, 0, 4, 30, 1])
    sums: dict[str, float] = {}
    for part in torch.split(ranks, parts):
        for name, value in metric_counts(part).items():
            sums[name] = sums.get(name, 0.0) + value
    measured = metrics_from_counts(sums)
    assert list(measured) == ["recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10"]
    whole = metrics_from_counts(metric_counts(ranks))
    assert measured == pytest.approx(whole)
    assert whole["recall_at_5"] == pytest.approx(45.0)


@pytest.mark.parametrize("seed", range(3))
def test_equals_ranx_on_random_data_without_ties(seed: int) -> None:
    ranx = pytest.importorskip("ranx")
    generator = np.random.default_rng(seed)
    queries, items, depth = 200, 40, 15
    order = np.stack([generator.permutation(items) for _ in range(queries)])[:, :depth]
    targets = generator.integers(0, items, queries)
    scores = -np.sort(generator.permutation(10 * depth)[:depth]).astype(float)  # distinct, descending
    run = {f"q{q}": {f"d{item}": float(s) for item, s in zip(order[q], scores)} for q in range(queries)}
    qrels = {f"q{q}": {f"d{targets[q]}": 1} for q in range(queries)}
    names = ["recall@1", "recall@5", "recall@10", "mrr@10"]
    expected = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), names)

    ranks = ranks_of(torch.from_numpy(order), torch.from_numpy(targets))
    assert 0 < int((ranks == 0).sum()) < queries
    assert int(ranks.max()) > 10
    measured = metrics_from_counts(metric_counts(ranks))
    assert list(measured.values()) == pytest.approx([100 * expected[name] for name in names])


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="no queries"):
        metrics_from_counts(metric_counts(torch.empty(0, dtype=torch.int64)))
    with pytest.raises(ValueError, match="found -1"):
        metric_counts(torch.tensor([1, -1]))
    with pytest.raises(ValueError, match="int64"):
        metric_counts(torch.tensor([1.0]))
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3,\)"):
        ranks_of(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
