"""fairseq's and our own commands as a user runs them."""

import atexit
import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import warm_python

from cart_fairseq.base.reading import read_json

REPOSITORY = Path(__file__).resolve().parents[1]
TASK = ["--user-dir", str(REPOSITORY / "cart_fairseq"), "--task", "cart_retrieval"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(REPOSITORY)}


@functools.cache
def warm() -> warm_python.WarmPython:
    """The warm Python of this process and its tests, started when one first needs it."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(warm_python.serving(Path(stack.enter_context(tempfile.TemporaryDirectory()))))


def run(
    *command, module: str = "fairseq_cli.train", stdin: str | None = None, fails: bool = False, cold: bool = False
) -> str:
    """Run a module as a user would; returns its output, stderr included.

    Args:
        cold: in a fresh interpreter, which takes seconds of imports, instead of a warm one.
    """
    python = sys.executable if cold else str(warm().python)
    done = subprocess.run(
        [python, "-m", module, *map(str, command)],
        input=stdin,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
    )
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output[-3000:]
    return output


def train_flags(data: Path, save: Path, *extra) -> list:
    flags = "--arch cart_tiny --criterion cart_rdrop --optimizer adam --lr 0.01 --lr-scheduler fixed --batch-size 16"
    flags += " --best-checkpoint-metric recall_at_1 --maximize-best-checkpoint-metric --seed 3 --cpu --num-workers 0"
    flags += " --log-format json --dropout 0.1"
    return [data, *TASK, *flags.split(), "--save-dir", save, *extra]


def logged(output: str, key: str) -> list[float]:
    """The values of a metric in fairseq's JSON log lines, in order."""
    lines = [line[line.index("{") :] for line in output.splitlines() if '"valid_recall_at_1"' in line]
    return [float(json.loads(line)[key]) for line in lines if "valid_num_updates" in line]


def measured(output: str) -> dict[str, float]:
    """The metrics that fairseq-validate printed last."""
    line = [line for line in output.splitlines() if "recall_at_1" in line][-1]
    return {name: float(value) for name, value in re.findall(r"(recall_at_\d+|mrr_at_10) (\d+(?:\.\d+)?)", line)}


def validate(data: Path, checkpoint, *extra, cold: bool = False) -> dict[str, float]:
    flags = ["--path", checkpoint, "--valid-subset", "test", "--batch-size", 5, "--cpu", "--num-workers", 0]
    flags += ["--log-format", "simple"]
    return measured(run(data, *TASK, *flags, *extra, module="fairseq_cli.validate", cold=cold))


def generate(data: Path, checkpoint, out: Path, *extra, cold: bool = False) -> dict[str, float]:
    flags = ["--path", checkpoint, "--gen-subset", "test", "--beam", 30, "--nbest", 10, "--cpu", "--results-path", out]
    run(data, *TASK, *flags, *extra, module="fairseq_cli.generate", cold=cold)
    results = out / "generate-test.txt"
    run(results, "--data", data, "--json", out / "m.json", module="cart_fairseq.evaluate", cold=cold)
    return read_json(out / "m.json")


def refused(*flags) -> str:
    """The line with which fairseq-train ends."""
    said = run(*flags, fails=True)
    assert "Traceback" not in said
    return said.splitlines()[-1]
