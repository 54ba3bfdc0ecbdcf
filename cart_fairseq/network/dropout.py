"""Dropout with fast random masks on a CPU."""

import numpy as np
import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout that draws one random byte per element on a CPU, and torch's dropout on other devices.

    torch draws a float per element, which takes a tenth of a training step on a CPU. With bytes, the probability is
    rounded to a multiple of 1/256; kept elements are scaled by the rounded value, so the expectation is exact.

    Args:
        p: probability that an element is zeroed.

    Raises:
        ValueError: p is not in [0, 1).
    """

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout is {p}; it must be at least 0 and below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Zero random elements of x in training; the result has x's shape and dtype."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        dropped = min(255, round(self.p * 256))
        seed = int(torch.randint(2**62, ()))  # numpy's generator is faster; torch's seed still decides
        draws = np.random.Generator(np.random.SFC64(seed)).integers(0, 256, x.numel(), dtype=np.uint8)
        kept = torch.from_numpy(draws).view(x.shape) >= dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped))

    def extra_repr(self) -> str:
        """Return the probability, for the printed model."""
        return f"p={self.p}"
