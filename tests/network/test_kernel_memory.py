"""A search in bf16 keeps few of oneDNN's kernels, however many shapes its batches have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cart_fairseq.network.precision import KERNELS

SHAPES = """
import torch
from torch import nn
from cart_fairseq.network.precision import convert

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.output_projection = nn.Linear(384, 1536)

class Model(nn.Module):
    precision, dense, reader, level_discount, calibration = "float32", None, None, 1.0, None
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(384, 384), Decoder()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4 / 1024

torch.set_num_threads(1)
model = convert(Model(), "bf16")
with torch.no_grad():
    for rows in range(1, 450):
        if rows == 170:
            before = resident()
        model.decoder.output_projection(torch.zeros(rows, 384, dtype=torch.bfloat16))
print(resident() - before)
"""


def growth(**environment: str) -> float:
    """MiB by which memory grows in 280 batches of different shapes."""
    kept = {name: value for name, value in os.environ.items() if name not in KERNELS}
    ended = subprocess.run([sys.executable, "-c", SHAPES], capture_output=True, text=True, env=kept | environment)
    assert not ended.returncode, ended.stderr
    return float(ended.stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="no /proc")
def test_batches_of_many_shapes_need_no_more_memory():
    unbounded = growth(**dict.fromkeys(KERNELS, "1024"))  # what a user chooses holds
    if unbounded < 50:
        pytest.skip("bf16 has no kernels of its own on this processor")
    assert growth() < unbounded / 3
