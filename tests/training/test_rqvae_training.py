"""cart_fairseq.tasks.cart_rqvae: what fairseq-train sees, from batches to resumed checkpoints."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.data.data_utils import numpy_seed
from fairseq.logging import metrics
from fairseq_cli.train import cli_main
from omegaconf import OmegaConf

from cart_fairseq.criterions.cart_rqvae import RQVAECriterion, perplexity
from cart_fairseq.models.cart_rqvae import RQVAEModel, RQVAEModelConfig
from cart_fairseq.rqvae.network import RQVAE
from cart_fairseq.tasks.cart_rqvae import RQVAETask, RQVAETaskConfig
from cart_fairseq.tasks.residual_dataset import ResidualDataset
from preprocess.identifiers.rqvae_runner import (
    default_batch_size,
    fairseq_arguments,
    load_rqvae,
    train_rqvae,
)
from preprocess.identifiers.settings import RQVAESettings

SETTINGS = RQVAESettings(codebooks=2, codebook_size=8, latent_dim=4, epochs=6, warmup_epochs=3, batch_size=32, seed=5)


@pytest.fixture
def residuals(tmp_path) -> Path:
    path = tmp_path / "residuals.npy"
    np.save(path, np.random.default_rng(0).standard_normal((90, 6)).astype(np.float32))
    return path


@pytest.fixture
def task(residuals) -> RQVAETask:
    return RQVAETask(RQVAETaskConfig(data=str(residuals), rqvae_reseed_interval=2, seed=5))


def build(task: RQVAETask) -> RQVAEModel:
    torch.manual_seed(5)
    cfg = RQVAEModelConfig(_name="cart_rqvae", rqvae_latent_dim=4, rqvae_codebook_size=8)
    return task.build_model(OmegaConf.structured(cfg))


def train(monkeypatch, residuals: Path, save_dir: Path, settings: RQVAESettings, *more: str) -> None:
    arguments = fairseq_arguments(residuals, save_dir, 90, settings)
    monkeypatch.setattr(sys, "argv", ["fairseq-train", *arguments, "--cpu", *more])
    cli_main()


def test_a_batch_gathers_its_rows():
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    dataset = ResidualDataset(rows)
    batch = dataset.collater([dataset[3], dataset[1]])
    assert batch["id"].tolist() == [3, 1]
    assert batch["net_input"]["x"].tolist() == [[9, 10, 11], [3, 4, 5]]
    assert (batch["nsentences"], batch["ntokens"]) == (2, 2)


def test_every_epoch_has_batches_of_other_members(task):
    task.load_dataset("train")

    def members(epoch: int) -> list[set[int]]:
        iterator = task.get_batch_iterator(task.dataset("train"), max_sentences=32, seed=1, epoch=epoch)
        return [set(batch["id"].tolist()) for batch in iterator.next_epoch_itr(shuffle=False)]

    first, again, second = members(1), members(1), members(2)
    assert first == again
    assert sorted(map(len, first)) == [26, 32, 32]
    assert set.union(*first) == set.union(*second) == set(range(90))
    assert all(batch not in second for batch in first)
    with numpy_seed(0):
        assert sorted(task.residuals.ordered_indices()) == list(range(90))


def test_codebooks_are_initialised_when_the_model_is_built(task):
    model = build(task)
    codes = model.rqvae.encode(task.sample(epoch=0))
    assert [len(codes[:, m].unique()) for m in range(2)] == [8, 8]


def test_dead_codewords_are_reseeded_every_interval(task):
    model = build(task)
    with torch.no_grad():
        model.rqvae.codebooks[0][0] = 1e4
    for epoch, moved in ((1, False), (2, False), (3, True)):
        task.begin_epoch(epoch, model)
        assert bool((model.rqvae.codebooks[0][0] < 1e3).all()) is moved


def test_criterion_sums_and_its_counts_add_up_over_workers(task):
    model, criterion = build(task), RQVAECriterion(task)
    whole = task.residuals.collater(list(range(90)))
    loss, rows, output = criterion(model, whole)
    expected = model.rqvae(whole["net_input"]["x"])
    torch.testing.assert_close(loss, expected.loss.sum())
    assert rows == 90
    halves = [criterion(model, task.residuals.collater(part))[2] for part in (list(range(31)), list(range(31, 90)))]
    logged = []
    for outputs in ([output], halves):
        with metrics.aggregate(new_root=True) as aggregator:
            RQVAECriterion.reduce_metrics(outputs)
        logged.append(aggregator.get_smoothed_values())
    assert logged[0] == pytest.approx(logged[1], abs=2e-3)
    codes = expected.codes.numpy()
    counts = np.bincount(codes[:, 1], minlength=8)
    share = counts[counts > 0] / 90
    assert logged[0]["v2_used"] == len(share)
    assert logged[0]["v2_perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), abs=0.05)
    assert logged[0]["reconstruction_loss"] == pytest.approx(expected.reconstruction_loss.mean().item(), abs=1e-3)


def test_perplexity_of_even_and_single_use():
    assert perplexity(torch.tensor([5, 5, 5, 5, 0])) == pytest.approx(4)
    assert perplexity(torch.tensor([0, 9])) == pytest.approx(1)


def test_epochs_of_the_paper_become_updates(tmp_path):
    arguments = fairseq_arguments(tmp_path / "r.npy", tmp_path, 8000, RQVAESettings(2, 128, 64, 500, 300, 1024, 1))
    options = dict(itertools.pairwise(arguments))
    assert options["--warmup-updates"] == str(300 * 8)
    assert (options["--warmup-init-lr"], options["--lr"], options["--max-epoch"]) == ("1e-06", "0.0001", "500")


@pytest.mark.parametrize(("rows", "batch"), [(1, 32), (300, 64), (1776, 256), (8000, 1024), (10**6, 1024)])
def test_default_batch_size(rows, batch):
    assert default_batch_size(rows) == batch


def test_training_learns_and_a_resumed_run_equals_an_unbroken_one(monkeypatch, residuals, tmp_path):
    more = ("--rqvae-reseed-interval", "1", "--save-interval", "2")
    train(monkeypatch, residuals, tmp_path / "unbroken", SETTINGS, *more)
    train(monkeypatch, residuals, tmp_path / "resumed", SETTINGS, *more, "--max-epoch", "4")
    train(monkeypatch, residuals, tmp_path / "resumed", SETTINGS, *more)
    unbroken, resumed = (load_rqvae(tmp_path / n / "checkpoint_last.pt", 6, SETTINGS) for n in ("unbroken", "resumed"))
    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name

    x = torch.from_numpy(np.load(residuals))
    torch.manual_seed(5)
    untrained = RQVAE(6, 4, 2, 8)
    untrained.initialise_codebooks(x, seed=5)
    assert unbroken(x).reconstruction_loss.mean() < untrained(x).reconstruction_loss.mean()


def test_other_arrays_are_refused(tmp_path):
    np.save(tmp_path / "r.npy", np.ones(3, dtype=np.float32))
    with pytest.raises(ValueError, match=r"must be \(N, D\) float32"):
        RQVAETask(RQVAETaskConfig(data=str(tmp_path / "r.npy")))


def test_two_processes_make_the_updates_of_one(residuals, tmp_path):
    """torchrun, gloo: the same batches and learning rates; only the sums of gradients round otherwise."""
    trained = {}
    for name, processes in (("one", 1), ("two", 2), ("again", 2)):
        (tmp_path / name).mkdir()
        trained[name] = train_rqvae(residuals, tmp_path / name, SETTINGS, processes).state_dict()
        log = (tmp_path / name / "fairseq-train.log").read_text()
        assert "num_updates 18 " in log
    for weight, tensor in trained["one"].items():
        torch.testing.assert_close(trained["two"][weight], tensor, rtol=1e-4, atol=1e-5)
        assert torch.equal(trained["two"][weight], trained["again"][weight]), weight


def test_processes_share_every_batch():
    rows = np.arange(14, dtype=np.float32).reshape(7, 2)
    parts = [ResidualDataset(rows, shard, 3).collater([6, 5, 4, 3])["id"].tolist() for shard in range(3)]
    assert parts == [[6, 3], [5], [4]]
    assert ResidualDataset(rows, 2, 3).collater([1, 0])["net_input"]["x"].shape == (0, 2)


def test_a_process_without_rows_in_the_last_batch_is_no_harm(task):
    model, criterion = build(task), RQVAECriterion(task)
    loss, rows, _ = criterion(model, ResidualDataset(np.ones((1, 6), dtype=np.float32), 1, 2).collater([0]))
    loss.backward()
    assert (float(loss), rows) == (0, 0)
    assert all(float(p.grad.abs().sum()) == 0 for p in model.parameters())
