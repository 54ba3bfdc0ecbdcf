"""recall@k and MRR@k of ranked retrieval, from the rank of each query's item.

Every query has exactly one right item. With Q queries and r_q the 1-based rank of query q's item among the retrieved
items (0: not retrieved), in percent:

    recall@k = 100 / Q * #{q : 1 <= r_q <= k}
    MRR@k    = 100 / Q * sum of 1 / r_q over the queries with 1 <= r_q <= k

These are the metrics of the paper's Tables 1-4. `metric_counts` computes sums and `metrics_from_counts` the ratios,
because averages of ratios over batches or workers of unequal size are wrong.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from cart_fairseq.measuring.labels import METRIC_NAMES, MRR_CUTOFF, RECALL_CUTOFFS

QUERIES = "queries"


def ranks_of(retrieved: Tensor, targets: Tensor) -> Tensor:
    """Rank of each query's item among the retrieved items.

    Args:
        retrieved: (Q, k) integer item rows, best first; negative entries are empty.
        targets: (Q,) integer item rows, not negative.

    Returns:
        (Q,) int64, the 1-based rank of the first match, or 0 if there is none.

    Raises:
        ValueError: the shapes do not fit.

    >>> ranks_of(torch.tensor([[7, 3, 5], [4, -1, -1]]), torch.tensor([5, 9])).tolist()
    [3, 0]
    """
    if retrieved.dim() != 2 or targets.shape != retrieved.shape[:1]:
        raise ValueError(
            f"retrieved rows must be (Q, k) and targets (Q,), found {tuple(retrieved.shape)} and {tuple(targets.shape)}"
        )
    if retrieved.size(1) == 0:
        return torch.zeros_like(targets, dtype=torch.int64)
    matches = retrieved == targets.unsqueeze(1)
    first = matches.int().argmax(dim=1)
    return torch.where(matches.any(dim=1), first + 1, 0)


def metric_counts(ranks: Tensor) -> dict[str, float]:
    """Sums over queries, which can be added over batches and workers.

    Args:
        ranks: (Q,) int64, 1-based, 0 for not found; Q may be 0.

    Returns:
        `queries` (Q), `recall_at_1/5/10` (number of hits) and `mrr_at_10` (sum of reciprocal ranks), as floats.

    Raises:
        ValueError: the dtype or shape is wrong, or a rank is negative.
    """
    counts = {QUERIES: float(ranks.numel())}
    counts.update({f"recall_at_{k}": _hits(ranks, k) for k in RECALL_CUTOFFS})
    counts[f"mrr_at_{MRR_CUTOFF}"] = _reciprocal_sum(ranks, MRR_CUTOFF)
    return counts


def metrics_from_counts(counts: Mapping[str, float]) -> dict[str, float]:
    """Metrics in percent, from (sums of) the results of `metric_counts`.

    Raises:
        ValueError: the number of queries is 0.

    >>> metrics_from_counts(metric_counts(torch.tensor([1, 2, 0, 8])))
    {'recall_at_1': 25.0, 'recall_at_5': 50.0, 'recall_at_10': 75.0, 'mrr_at_10': 40.625}
    """
    queries = float(counts[QUERIES])
    if queries <= 0:
        raise ValueError("there are no queries to measure")
    return {name: 100.0 * float(counts[name]) / queries for name in METRIC_NAMES}


def _checked(ranks: Tensor) -> Tensor:
    if ranks.dim() != 1 or ranks.dtype != torch.int64:
        raise ValueError(f"ranks must be a vector of int64, found {ranks.dtype} of shape {tuple(ranks.shape)}")
    if ranks.numel() and int(ranks.min()) < 0:
        raise ValueError(f"ranks are 1-based with 0 for 'not found', found {int(ranks.min())}")
    return ranks


def _within(ranks: Tensor, k: int) -> Tensor:
    ranks = _checked(ranks)
    return ranks[(ranks >= 1) & (ranks <= k)]


def _hits(ranks: Tensor, k: int) -> float:
    return float(_within(ranks, k).numel())


def _reciprocal_sum(ranks: Tensor, k: int) -> float:
    # float64, because a float32 sum over 100,000 queries changes the second decimal; on the CPU, because not every
    # accelerator has float64
    return float(_within(ranks, k).cpu().double().reciprocal().sum())
