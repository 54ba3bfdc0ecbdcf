"""Tools of the field read what the guide says they read: TREC files, TensorBoard's events, runs of Weights & Biases."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import ENVIRONMENT, TASK, logged, run, train_flags
from documented import ROOT, fences

from cart_fairseq.base.settings import EvaluationSettings
from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.steps.evaluation import evaluate

PAGE = ROOT / "docs" / "benchmarks.md"


@pytest.fixture(scope="module")
def trained(data_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    run(*train_flags(data_bin, folder / "save", "--max-epoch", 3))
    return folder


@pytest.fixture(scope="module")
def figures(data_bin: Path, trained: Path) -> dict[str, Any]:
    """The metrics in percent, with ``run.trec`` and ``qrels.trec`` beside the checkpoint."""
    path = trained / "save" / "checkpoint_best.pt"
    flags = ["--path", path, "--beam", 30, "--nbest", 10, "--cpu", "--num-workers", 0, "--results-path", trained]
    run(data_bin, *TASK, *flags, module="fairseq_cli.generate")
    found = evaluate(data_bin, trained / "generate-test.txt", settings=EvaluationSettings())
    found.write_run(trained / "run.trec")
    found.write_qrels(trained / "qrels.trec")
    assert 0 < found.figures["recall_at_1"] < found.figures["recall_at_5"] < 100
    return found.figures


def test_ir_measures_finds_the_same(trained, figures):
    pytest.importorskip("ir_measures", reason="needs ir_measures (make field)")
    [line] = re.findall(r"^ir_measures .*$", PAGE.read_text(encoding="utf-8"), re.M)
    program = "from ir_measures.__main__ import main_cli; main_cli()"
    command = [sys.executable, "-c", program, *shlex.split(line)[1:]]
    done = subprocess.run(command, cwd=trained, capture_output=True, text=True, check=True)
    found = dict(row.split("\t") for row in done.stdout.splitlines())
    expected = dict(zip(("R@1", "R@5", "R@10", "RR@10"), METRIC_NAMES, strict=True))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: figures[ours] / 100 for name, ours in expected.items()}, abs=5e-5
    )


def test_ranx_finds_the_same(trained, figures, monkeypatch):
    pytest.importorskip("ranx", reason="needs ranx (extra [test])")
    [example] = [each for each in fences(PAGE, "python") if "ranx" in each]
    monkeypatch.chdir(trained)
    names: dict[str, Any] = {}
    exec(example, names)
    found = [100 * float(value) for value in names["figures"].values()]
    assert found == pytest.approx([figures[name] for name in METRIC_NAMES], abs=1e-4)


def train(data_bin: Path, folder: Path, *flags: str, **environment: str) -> str:
    """Train as a user does, in a folder; returns the output."""
    command = [sys.executable, "-m", "fairseq_cli.train", *map(str, train_flags(data_bin, "save", "--max-epoch", 2))]
    done = subprocess.run(
        [*command, *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
        check=True,
    )
    return done.stdout + done.stderr


def test_tensorboard_reads_the_metrics(data_bin, tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard (make field)"
    )
    output = train(data_bin, tmp_path, "--tensorboard-logdir", "logs")
    events = accumulator.EventAccumulator(str(tmp_path / "logs" / "valid"))
    events.Reload()
    expected = logged(output, "valid_recall_at_1")
    assert len(expected) == 2
    assert [event.value for event in events.Scalars("recall_at_1")] == pytest.approx(expected)


def test_weights_and_biases_keeps_the_run_here(data_bin, tmp_path):
    pytest.importorskip("wandb", reason="needs wandb (make field)")
    train(data_bin, tmp_path, "--wandb-project", "cart", WANDB_MODE="offline", WANDB_NAME="small")
    [kept] = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    content = kept.read_bytes()
    for name in METRIC_NAMES:
        assert f"valid/{name}".encode() in content
    assert b"small" in content
