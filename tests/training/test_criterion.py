"""The loss: equal to a hand computation and to half of fairseq's own, without influence of padding."""

import copy
import math

import pytest
import torch
from conftest import make_batch, make_model
from fairseq.criterions.label_smoothed_cross_entropy_with_rdrop import RdropLabelSmoothedCrossEntropyCriterion
from torch import nn

from cart_fairseq.criterions.cart_rdrop import CARTRDropCriterion

PAD = 1


class Logits(nn.Module):
    """A model that answers the first pass with one tensor and the second with another."""

    def __init__(self, first, second):
        super().__init__()
        self.passes = torch.stack([first, second])
        self.encoder = nn.Module()

    def forward(self, src_tokens, src_lengths, prev_output_tokens):
        rows = len(self.passes[0])
        if len(prev_output_tokens) == rows:
            return (self.passes[0], None)
        interleaved = len(src_tokens) == rows
        return (self.passes.transpose(0, 1).flatten(0, 1) if interleaved else self.passes.flatten(0, 1), None)

    def get_normalized_probs(self, net_output, log_probs, sample=None):
        return net_output[0].log_softmax(-1) if log_probs else net_output[0].softmax(-1)

    def get_targets(self, sample, net_output):
        return sample["target"]


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 4, 11, generator=generator) for _ in range(2))
    target = torch.randint(4, 11, (3, 4), generator=generator)
    target[1, 2:] = PAD
    net_input = {"src_tokens": torch.full((3, 2), 5), "src_lengths": torch.full((3,), 2)}
    net_input["prev_output_tokens"] = torch.full((3, 4), 2)
    sample = {"net_input": net_input, "target": target, "ntokens": int((target != PAD).sum())}
    return Logits(first, second), sample


def criterion(task, weight=0.15, smoothing=0.0, shared=False, training=True):
    made = CARTRDropCriterion(task, weight, smoothing, shared)
    return made.train(training)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("omega", [0.15, 1.0])
def test_equals_half_of_fairseq_s_rdrop_at_four_omega(task, case, omega, shared):
    model, sample = case
    stock = RdropLabelSmoothedCrossEntropyCriterion(
        task, sentence_avg=False, label_smoothing=0.0, rdrop_alpha=4 * omega
    )
    expected, _, _ = stock(model, copy.deepcopy(sample))  # it doubles its input in place
    found, size, logged = criterion(task, omega, shared=shared)(model, sample)
    torch.testing.assert_close(found, expected.squeeze() / 2)
    assert size == sample["ntokens"] == 10
    assert logged["loss"] == found


def test_equals_a_hand_computation(task, case):
    model, sample = case
    loss = kl = smooth = 0.0
    for row in range(3):
        for position in range(4):
            wanted = int(sample["target"][row, position])
            if wanted == PAD:
                continue
            p, q = (model.passes[i, row, position].double().softmax(-1).tolist() for i in (0, 1))
            loss -= (math.log(p[wanted]) + math.log(q[wanted])) / 2
            smooth -= sum(map(math.log, p + q)) / 2 / len(p)
            kl += sum(a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p, q, strict=True))
    found, _, logged = criterion(task, 0.3, 0.1)(model, sample)
    assert float(found) == pytest.approx(0.9 * loss + 0.1 * smooth + 0.3 * kl, rel=1e-5)
    assert float(logged["nll_loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(logged["consistency"]) == pytest.approx(kl, rel=1e-5)


def test_padding_has_no_influence(task, case):
    model, sample = case
    before, _, _ = criterion(task)(model, sample)
    model.passes[:, 1, 2:] = torch.randn(2, 2, 11) * 50
    after, _, _ = criterion(task)(model, sample)
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize(("weight", "training"), [(0.0, True), (0.15, False)])
def test_one_pass_where_there_is_nothing_to_compare(task, case, weight, training):
    model, sample = case
    expected, _, _ = criterion(task, 0.0, training=False)(model, sample)
    found, _, logged = criterion(task, weight, training=training)(model, sample)
    torch.testing.assert_close(found, expected)
    assert logged["consistency"] == 0


def test_shared_encoder_equals_two_runs_without_dropout(task):
    model, batch = make_model(task, dropout=0.0).train(), make_batch(task, "train")
    expected, _, _ = criterion(task)(model, batch)
    found, _, _ = criterion(task, shared=True)(model, batch)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shared", [False, True])
def test_passes_differ_by_dropout_and_both_learn(task, shared):
    model, batch = make_model(task, dropout=0.5).train(), make_batch(task, "train")
    loss, _, logged = criterion(task, shared=shared)(model, batch)
    assert logged["consistency"] > 0
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.encoder.layers.parameters())


@pytest.mark.parametrize(("weight", "smoothing"), [(-0.1, 0.0), (0.1, 1.0), (0.1, -0.5)])
def test_weights_out_of_range_are_refused(task, weight, smoothing):
    with pytest.raises(ValueError, match="--consistency-weight"):
        criterion(task, weight, smoothing)
