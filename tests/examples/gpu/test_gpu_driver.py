"""examples/gpu.sh: variables, packages, which parts run, and their time limit."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import load_example
from recipe_calls import call
from recipe_samples import write_data

from cart_fairseq.base.files import write_json

gpu = load_example("gpu", "gpu")
ROOT = Path(__file__).resolve().parents[3]
CPU = {"DEVICE": "cpu", "SMALL": "1"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PARTS": "search speed"}, "PARTS: no part 'speed'; use some of agreement, tests, search, "),
        ({"LIMIT": "0"}, "LIMIT is '0'; give a number of seconds above 0"),
        ({"LIMIT": "10m"}, "LIMIT is '10m'; give a number of seconds above 0"),
        ({"DEVICE": "tpu"}, "DEVICE is 'tpu'; use one of cuda, cpu"),
        ({"DATA": "/no such"}, "DATA is '/no such', which has no embeddings.npy; name a folder with embeddings.npy, "),
        ({"RECIPE": "paper"}, "RECIPE is set, but examples/gpu.sh does not read it; leave it out"),
    ],
)
def test_wrong_variables_are_refused_before_anything_is_made(variables, said, tmp_path):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        call("gpu", tmp_path / "out", **CPU | variables)
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named_as_wheels(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None if name in ("hydra", "antlr4") else name)
    said = r": has no hydra-core>=1\.3\.2, antlr4-python3-runtime==4\.9\.\*; pip install \. where there"
    with pytest.raises(ValueError, match=said):
        call("gpu", tmp_path / "out", **CPU)


def test_a_package_that_fairseq_does_not_take_is_named(tmp_path, monkeypatch):
    installed = gpu.metadata.version
    monkeypatch.setattr(gpu.metadata, "version", lambda name: "2.4.0" if name == "omegaconf" else installed(name))
    with pytest.raises(ValueError, match=r": has omegaconf 2\.4\.0 instead of omegaconf<2\.4; pip install"):
        call("gpu", tmp_path / "out", **CPU)


def test_without_a_gpu_the_trial_on_a_processor_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^torch finds no CUDA device; DEVICE=cpu SMALL=1 tries the parts"):
        call("gpu", tmp_path / "out")


def part_calls(monkeypatch, ends: bool = True) -> list[str]:
    """The names of the parts that run, in place of their processes."""
    names: list[str] = []

    def note(part, *_) -> bool:
        names.append(part.name)
        return ends

    monkeypatch.setattr(gpu, "call", note)
    return names


def test_parts_that_need_data_are_skipped_by_name_and_complete_ones_are_not_run_again(tmp_path, monkeypatch):
    ran = part_calls(monkeypatch)
    settings = {"device": "cpu", "small": True}
    write_json(tmp_path / "out" / "search.json", {"settings": settings, "complete": True})
    write_json(tmp_path / "out" / "updates.json", {"settings": settings, "complete": False})
    said = call("gpu", tmp_path / "out", **CPU)
    assert ran == ["agreement", "tests", "updates"]
    assert "search.json: complete, nothing to do" in said
    assert said.endswith("skipped without DATA: quality, paper\n")

    call("gpu", tmp_path / "out", DATA=str(write_data(tmp_path / "data")), PARTS="paper quality", **CPU)
    assert ran[3:] == ["quality", "paper"]


def test_a_part_that_fails_does_not_keep_others_from_running(tmp_path, monkeypatch):
    ran = part_calls(monkeypatch, ends=False)
    with pytest.raises(SystemExit) as ended:
        call("gpu", tmp_path / "out", PARTS="search updates", **CPU)
    assert ended.value.code == 1
    assert ran == ["search", "updates"]


def test_figures_of_another_size_are_not_mixed(tmp_path, monkeypatch):
    ran = part_calls(monkeypatch)
    record = {"settings": {"device": "cpu", "small": False}, "complete": False}
    write_json(tmp_path / "out" / "updates.json", record)
    with pytest.raises(ValueError, match=r"updates\.json: has figures of DEVICE=cpu in full size; choose another OUT"):
        call("gpu", tmp_path / "out", **CPU)
    assert not ran


ENDS = "raise SystemExit(3)"
STOPS = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
signal.signal(signal.SIGTERM, lambda *_: (child.terminate(), child.wait(), print("stopped", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(60)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("program", "code", "said"), [(ENDS, 3, ""), (STOPS, None, "ready\nstopped\n"), (DEAF, None, "ready\n")]
)
def test_a_part_ends_by_itself_or_is_told_to_or_is_killed(program, code, said, monkeypatch, capfd):
    monkeypatch.setattr(gpu, "GRACE", 2 if program == DEAF else 20)
    start = time.monotonic()
    assert gpu.ended_within([sys.executable, "-c", program], dict(os.environ), 5) == code
    assert time.monotonic() - start < 50  # the programs sleep longer
    assert capfd.readouterr().out == said


def test_a_part_ends_with_its_driver():
    driver = f"""
import os, sys
sys.path[:0] = [{str(ROOT / "examples" / "gpu")!r}, {str(ROOT / "examples" / "recipes")!r}, {str(ROOT)!r}]
import gpu
gpu.ended_within([sys.executable, "-c", {STOPS!r}], dict(os.environ), 60)
"""
    with subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        assert process.stdout.read() == "stopped\n"  # the end of all that holds the pipe


def test_a_part_that_is_stopped_says_how_to_go_on_and_one_that_ends_early_has_failed(tmp_path, monkeypatch, capsys):
    [part, *_], wanted = gpu.PARTS, gpu.Wish((), "cpu", True, None, 5)
    for code, complete, said in ((None, False, "stopped; give"), (0, False, "failed"), (0, True, "complete")):
        monkeypatch.setattr(gpu, "ended_within", lambda *_, code=code: code)
        write_json(tmp_path / f"{part.name}.json", {"complete": complete})
        assert gpu.call(part, tmp_path, wanted) == (said != "failed")
        assert f"{part.name}: {said}" in capsys.readouterr().out
