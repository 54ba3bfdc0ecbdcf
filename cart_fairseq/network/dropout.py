"""Dropout whose masks cost little on a CPU."""

import numpy as np
import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout that draws one random byte an element on a CPU, where drawing a float for each takes a tenth of a step.

    The probability is rounded to a multiple of 1/256 there; kept elements are scaled by what it is rounded to, so that
    the expectation stays. Elsewhere it is torch's dropout.

    Args:
        p: probability of an element to be zeroed.

    Raises:
        ValueError: p is not in [0, 1).
    """

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout is {p}; it must be at least 0 and below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements of x at random while training; same shape and dtype."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        dropped = min(255, round(self.p * 256))
        seed = int(torch.randint(2**62, ()))  # so torch's seed decides, and numpy's fast generator does the work
        draws = np.random.Generator(np.random.SFC64(seed)).integers(0, 256, x.numel(), dtype=np.uint8)
        kept = torch.from_numpy(draws).view(x.shape) >= dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped))

    def extra_repr(self) -> str:
        """The probability, for the printed model."""
        return f"p={self.p}"
