"""What the RQ-VAE's training says in a log while it runs."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cart_fairseq.base import progress
from cart_fairseq.base.progress import Progress
from preprocess.identifiers.rqvae_runner import fairseq_arguments, follow, train_rqvae
from preprocess.identifiers.settings import RQVAESettings

SETTINGS = RQVAESettings(epochs=2, warmup_epochs=1, batch_size=32, seed=1, codebooks=2, codebook_size=4, latent_dim=4)


def test_the_time_left_is_known_within_the_first_epoch(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "FIRST_LINE", 0.0)
    monkeypatch.setattr(progress, "USUAL_GAP", 0.0)
    monkeypatch.setattr(progress, "LARGEST_SHARE", 0.0)
    rows = np.random.default_rng(0).standard_normal((320, 8), dtype=np.float32)
    np.save(tmp_path / "residuals.npy", rows)
    train_rqvae(tmp_path / "residuals.npy", tmp_path, SETTINGS)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first.startswith("RQ-VAE: 2 epochs of 320 rows; the time left follows; all of its log is in ")
    assert re.fullmatch(r"RQ-VAE: 1 of 20 updates \(5%\), \S+ a (second|minute), \d+:\d\d left, epoch 1", lines[0])
    assert "20 of 20 updates (100%)" in lines[-2]
    assert lines[-1].startswith("RQ-VAE: 20 updates in ")


def test_a_run_that_goes_on_begins_with_the_epochs_that_are_done(capsys):
    lines = [
        "a | INFO | fairseq.trainer | begin training epoch 4\n",
        "epoch 004: 5 / 10 loss=1, num_updates=35, lr=1\n",
    ]
    log = io.StringIO()
    with Progress(50, "RQ-VAE", "updates") as shown:
        follow(lines, log, shown, 10)
        assert shown.done == 35
        assert shown._shown_done == 30
    assert log.getvalue() == "".join(lines)


@pytest.mark.parametrize(("rows", "interval"), [(320, 1), (1_000_000, 312)])
def test_a_long_run_writes_no_endless_log(rows: int, interval: int):
    arguments = fairseq_arguments(Path("r.npy"), Path("c"), rows, replace(SETTINGS, epochs=20))
    assert arguments[arguments.index("--log-interval") + 1] == str(interval)
