"""Dropout on a CPU: right share, right expectation, decided by torch's seed."""

import pytest
import torch

from cart_fairseq.network.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.999])
def test_share_and_expectation(p):
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1000, 1001))
    assert float((out == 0).float().mean()) == pytest.approx(min(p, 255 / 256), abs=1 / 256)
    assert float(out.mean()) == pytest.approx(1, abs=0.02)


def test_seed_decides_and_calls_differ():
    x, layer = torch.ones(64, 64), Dropout(0.5)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_gradient_passes_through_what_is_kept():
    x = torch.ones(50, 50, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, out.detach())


def test_nothing_happens_in_evaluation_or_at_zero():
    x = torch.randn(5, 5)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_out_of_range_is_refused(p):
    with pytest.raises(ValueError, match=str(p)):
        Dropout(p)
