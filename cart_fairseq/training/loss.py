"""The training loss: cross entropy, and the symmetric KL divergence of two dropout passes (CART Eq. 7-8)."""

from typing import NamedTuple

import torch
from torch import Tensor


class PassLoss(NamedTuple):
    """Losses of a batch: scalars, summed over target symbols, in natural-log units.

    Attributes:
        total: the loss to minimise.
        nll: cross entropy with the target symbols, averaged over the passes.
        consistency: KL(P‖Q) + KL(Q‖P) of two passes, unweighted; 0 for one pass.
    """

    total: Tensor
    nll: Tensor
    consistency: Tensor


def symmetric_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Compute KL(P‖Q) + KL(Q‖P), summed over all symbols (CART Eq. 7).

    Args:
        log_p, log_q: (…, V) natural-log probabilities.

    Returns:
        A scalar.
    """
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()


def pass_loss(
    log_probs: Tensor,
    target: Tensor,
    consistency_weight: float,
    label_smoothing: float = 0.0,
    soft: Tensor | None = None,
    distillation_weight: float = 0.0,
) -> PassLoss:
    """Compute the mean cross entropy of the passes plus the weighted divergence of two passes (CART Eq. 8).

    Args:
        log_probs: (P, N, V) natural-log probabilities of P = 1 or 2 passes and N target symbols, without padding.
        target: (N,) int64, the target symbols.
        consistency_weight: omega, the weight of the divergence.
        label_smoothing: probability mass spread evenly over the V symbols.
        soft: (N, V) soft targets p, or None.
        distillation_weight: w in the target (1 − w) · one-hot + w · p.
    """
    passes = len(log_probs)
    nll = -log_probs.gather(2, target.expand(passes, -1).unsqueeze(2)).sum() / passes
    loss = nll
    if soft is not None:
        distilled = -(log_probs * soft).sum() / passes
        loss = (1 - distillation_weight) * loss + distillation_weight * distilled
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_probs.mean(-1).sum() / passes
    consistency = torch.zeros((), device=loss.device)
    if passes == 2:
        consistency = symmetric_kl(*log_probs)
        loss = loss + consistency_weight * consistency
    return PassLoss(loss, nll, consistency)
