"""Two runs on one OUT, and trainings that end by a signal: real processes."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import load_example
from processes import started
from recipe_calls import call, fairseq_calls
from recipe_samples import write_data

lock = load_example("recipes", "lock")
SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "own_data" / "run.sh"
TINY = ("--arch", "cart_tiny", "--batch-size", "16")
QUICK = {"IDENTIFIER_FLAGS": "--scheme residual-kmeans --kmeans-clusters 3 --codebook-size 3 --allow-collapse"}


def wait_until(true: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_second_run_ends_at_once_and_a_killed_one_leaves_no_lock(tmp_path):
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_FLAGS")}
    environment = {**kept, **QUICK, "PYTHON": sys.executable, "RECIPE": "cpu"}
    command = ["bash", str(SCRIPT), str(data), str(out), *TINY]
    quiet: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    same = [*command, "--max-epoch", "1000000", "--patience", "1000000"]  # goes on until it is killed
    with started(same, **quiet) as first:
        wait_until((out / "checkpoints" / "checkpoint_last.pt").is_file)
        log = (out / "checkpoints" / "train.log").stat().st_size
        second = subprocess.run(same, env=environment, capture_output=True, text=True, timeout=120, check=False)
        held = f"process {first.pid} on "
        assert (second.returncode, second.stderr.count("\n")) == (2, 1)
        assert second.stderr.startswith(f"error: {out}: {held}")
        assert second.stderr.endswith("is at work there; wait until it ends, stop it, or choose another OUT\n")
        with pytest.raises(ValueError, match=held), lock.locked(out):
            pass
        wait_until(lambda: (out / "checkpoints" / "train.log").stat().st_size > log)  # the first one goes on
        first.kill()
        first.wait()
        third = subprocess.run(
            [*command, "--max-epoch", "3"], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    assert third.returncode == 0, third.stdout + third.stderr
    assert "Loaded checkpoint" in third.stdout
    assert (out / "metrics.json").is_file()
    assert (out / "checkpoints" / "lock").read_bytes() == b""


KILLED = """
import os, subprocess, sys
from pathlib import Path
import lock
with lock.locked(Path(sys.argv[1])):
    print(subprocess.Popen(["sleep", "60"], close_fds=False).pid, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_the_lock_lasts_as_long_as_the_training_of_a_killed_recipe(tmp_path):
    command, path = [sys.executable, "-c", KILLED, str(tmp_path)], str(Path(str(lock.__file__)).parent)
    environment = {**os.environ, "PYTHONPATH": path}
    with started(command, env=environment, stdout=subprocess.PIPE, text=True) as recipe:
        training = int(recipe.stdout.readline())
        assert recipe.wait(60) == -signal.SIGKILL
        with pytest.raises(ValueError, match=f"process {recipe.pid} on "), lock.locked(tmp_path):
            pass
        os.kill(training, signal.SIGKILL)
        wait_until(lambda: is_free(tmp_path))


def is_free(out: Path) -> bool:
    """Whether nobody has the lock."""
    try:
        with lock.locked(out):
            return True
    except ValueError:
        return False


def test_evaluation_is_refused_while_another_run_is_at_work(tmp_path, monkeypatch):
    steps = load_example("recipes", "steps")
    monkeypatch.setattr(steps, "plan_measuring", lambda *_: None)
    (tmp_path / "checkpoints").mkdir()
    with lock.locked(tmp_path), pytest.raises(ValueError, match=f"^{tmp_path}: process {os.getpid()} on "):
        call("msvd/evaluate", tmp_path)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "signal 9 (SIGKILL)"), (signal.SIGTERM, "signal 15 (SIGTERM)")]
)
def test_a_training_that_a_signal_ended_says_so(tmp_path, monkeypatch, number, said):
    ended = tmp_path / "python"
    ended.write_text(f"#!/bin/sh\necho last words\nkill -{number} $$\n")
    ended.chmod(0o755)
    monkeypatch.setattr(fairseq_calls.sys, "executable", str(ended))
    with pytest.raises(SystemExit) as failed, contextlib.redirect_stderr(io.StringIO()) as errors:
        fairseq_calls.train(tmp_path, tmp_path, [])
    assert failed.value.code == 1
    assert errors.getvalue() == f"last words\ntraining was ended by {said}; give the same command again to go on\n"
