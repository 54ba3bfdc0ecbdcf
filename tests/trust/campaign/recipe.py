"""A recipe's run.sh that is killed, as a whole or the first process alone; the same call then gives the same figures."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from recipe_samples import write_data
from trials import Campaign
from worlds import TESTS

SCRIPT = TESTS.parent / "examples" / "own_data" / "run.sh"
FLAGS = [
    "--arch",
    "cart",
    "--encoder-layers",
    "1",
    "--decoder-layers",
    "1",
    "--encoder-embed-dim",
    "16",
    "--decoder-embed-dim",
    "16",
    "--encoder-ffn-embed-dim",
    "16",
    "--decoder-ffn-embed-dim",
    "16",
    "--encoder-attention-heads",
    "2",
    "--decoder-attention-heads",
    "2",
    "--max-epoch",
    "3",
    "--batch-size",
    "8",
    "--num-workers",
    "0",
    "--cpu",
]
QUICK = {
    "IDENTIFIER_FLAGS": "--scheme residual-kmeans --kmeans-clusters 4 --codebook-size 4 --allow-collapse",
    "BINARIZE_FLAGS": "--vocab-size 64",
}
KINDS = ("group", "first process")
SECONDS = 600
PATIENCE = 120


def recipes(campaign: Campaign, trials: int) -> None:
    """Kill a run at times drawn by chance, and repeat it."""
    data = write_data(campaign.folder / "recipe-data")
    began = time.monotonic()
    expected = ended_with(started(data, campaign.folder / "whole"), campaign.folder / "whole")
    lasts = time.monotonic() - began
    if not isinstance(expected, dict):
        raise RuntimeError(f"{SCRIPT}: {expected}")
    out = campaign.folder / "out"
    for kind in KINDS:
        for _ in range(trials):
            shutil.rmtree(out, ignore_errors=True)
            process = started(data, out)
            time.sleep(campaign.draw.uniform(0, lasts))
            (os.killpg if kind == "group" else os.kill)(process.pid, signal.SIGKILL)
            process.communicate()
            campaign.note(f"run.sh, {kind} killed", *repeated(data, out, expected))
        campaign.show()


def repeated(data: Path, out: Path, expected: dict[str, Any]) -> tuple[str, Any]:
    """Call a recipe again; while the training of the killed one lives on, it is refused."""
    end = time.monotonic() + PATIENCE
    while True:
        found = ended_with(started(data, out), out)
        if isinstance(found, dict):
            return ("old or new, then done", "") if found == expected else ("wrong", (found, expected))
        if "is at work there" not in found or time.monotonic() > end:
            return "blocked", found
        time.sleep(1)


def started(data: Path, out: Path) -> subprocess.Popen[str]:
    """Begin a run in a group of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_FLAGS")}
    environment = {**kept, **QUICK, "PYTHON": sys.executable, "RECIPE": "cpu"}
    command = ["bash", str(SCRIPT), str(data), str(out), *FLAGS]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def ended_with(process: subprocess.Popen[str], out: Path) -> dict[str, Any] | str:
    """The figures of a run, or the end of what it printed."""
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return f"hang: {process.communicate()[0][-500:]}"
    if process.returncode:
        return said[-500:]
    return json.loads((out / "metrics.json").read_text())
