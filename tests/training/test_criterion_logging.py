"""What the criterion logs, its defaults, and its precision."""

import math

import pytest
import torch
from conftest import make_batch, make_model
from fairseq.logging import metrics

from cart_fairseq.criterions.cart_rdrop import CARTRDropConfig, CARTRDropCriterion


def test_defaults_are_the_paper_s():
    config = CARTRDropConfig()
    assert (config.consistency_weight, config.label_smoothing, config.distillation_weight) == (0.15, 0.0, 0.0)
    assert not config.shared_encoder


def test_losses_are_logged_in_bits_a_target_symbol_over_all_batches():
    parts = [
        {"loss": 6.0, "nll_loss": 4.0, "consistency": 2.0, "contrastive": 3.0, "sample_size": 8},
        {"loss": 1.0, "nll_loss": 1.0, "consistency": 0.5, "contrastive": 1.5, "sample_size": 2},
    ]
    with metrics.aggregate(new_root=True) as logged:
        CARTRDropCriterion.reduce_metrics(
            [{name: torch.tensor(value) for name, value in part.items()} for part in parts]
        )
    expected = {"loss": 7.0, "nll_loss": 5.0, "consistency": 2.5, "contrastive": 4.5}
    found = logged.get_smoothed_values()
    assert found == pytest.approx({name: value / 10 / math.log(2) for name, value in expected.items()}, abs=1e-3)


def test_losses_without_a_dense_head_and_of_no_batch():
    with metrics.aggregate(new_root=True) as logged:
        CARTRDropCriterion.reduce_metrics([])
    assert logged.get_smoothed_values() == {"loss": 0, "nll_loss": 0, "consistency": 0}


def test_the_loss_of_a_model_in_half_precision_is_summed_in_float32(task):
    batch, criterion = make_batch(task, "test"), CARTRDropCriterion(task, 0.15, 0.0).eval()
    model = make_model(task).bfloat16()
    loss, size, _ = criterion(model, batch)
    with torch.no_grad():
        logits = model(**batch["net_input"])[0]
    assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    expected = logits.double().log_softmax(-1).gather(2, batch["target"].unsqueeze(2)).sum()
    assert float(loss.detach()) == pytest.approx(-float(expected), rel=1e-5)
    assert size == batch["target"].numel()
