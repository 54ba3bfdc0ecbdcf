"""Checkpoints that fairseq writes, copies and reads: whole or not at all, one training at a time, errors that name them."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from changing import one_epoch
from commands import TASK, refused, run, train_flags
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

import cart_fairseq.tasks.plugin  # noqa: F401 - installs it
from cart_fairseq.base.files import locked_file
from cart_fairseq.tasks.checkpoint_files import LOCK


def test_a_copy_replaces_what_was_there(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"new")
    for _ in range(2):
        assert PathManager.copy(str(tmp_path / "best.pt"), str(tmp_path / "last.pt"), overwrite=True)
        assert (tmp_path / "last.pt").read_bytes() == b"new"


def test_a_copy_that_stops_half_way_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    for name, content in (("best.pt", b"new"), ("last.pt", b"old")):
        (tmp_path / name).write_bytes(content)

    def half(_: str, target: Path) -> None:
        Path(target).write_bytes(b"n")
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(OSError, match="no space left"):
        PathManager.copy(str(tmp_path / "best.pt"), str(tmp_path / "last.pt"), overwrite=True)
    assert (tmp_path / "last.pt").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return one_epoch(tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--decoder-layers", 3], "its weights do not go with this training's settings of the model (RuntimeError: "),
        (
            ["--coarse-gating", "self"],
            "(--coarse-gating is self, it was trained with sigmoid); give those it was trained",
        ),
        (["--decoder-attention-heads", 2], "(--decoder-attention-heads is 2, it was trained with "),
        (["--optimizer", "nag"], "FairseqAdam vs FairseqNAG); add --reset-optimizer"),
        (["--criterion", "cross_entropy", "--best-checkpoint-metric", "recall_at_1"], "add --reset-optimizer"),
    ],
    ids=["weights", "reading", "heads", "optimiser", "criterion"],
)
def test_a_training_that_cannot_go_on_ends_in_a_line(trained, tmp_path, flags, found):
    data, checkpoint = trained
    line = refused(*train_flags(data, tmp_path, "--restore-file", checkpoint, *flags))
    assert line.startswith(f"error: {checkpoint}: its ")
    assert found in line


def test_training_on_needs_the_network_of_before_and_may_have_another_dropout(trained, tmp_path):
    data, checkpoint = trained
    begin = ["--finetune-from-model", checkpoint, "--max-epoch", 1]
    for flags in (["--decoder-layers", 3], ["--activation-fn", "gelu"]):
        line = refused(*train_flags(data, tmp_path / "refused", *begin, *flags))
        assert line.startswith(
            f"error: {checkpoint}: its weights do not go with this training's settings of the model ("
        )
        assert line.endswith("; give those it was trained with")
    run(*train_flags(data, tmp_path / "save", *begin, "--dropout", 0.3))


def test_searches_of_validate_have_their_own_options(trained, tmp_path):
    data, checkpoint = trained
    begin = ["--restore-file", checkpoint, "--max-epoch", 2, "--eval-beam", 10, "--candidates", "all"]
    run(*train_flags(data, tmp_path, *begin, "--beam-scoring", "renormalised", "--float32-matmul-precision", "medium"))
    task = checkpoint_utils.load_model_ensemble_and_task([str(tmp_path / "checkpoint_last.pt")], {"data": str(data)})[2]
    assert (task.cfg.eval_beam, task.cfg.candidates, task.cfg.beam_scoring) == (30, "split", "masked")
    assert task.cfg.float32_matmul_precision == "highest"


def test_an_ensemble_is_told_from_a_missing_checkpoint(trained):
    _, checkpoint = trained
    both = f"{checkpoint}:{checkpoint}"
    with pytest.raises(ValueError, match=f"{both}: is an ensemble; give one of its checkpoints"):
        checkpoint_utils.load_model_ensemble_and_task([both])


def spoil(state: dict, name: str, value) -> None:
    moments = state["last_optimizer_state"]["state"][0]
    moments[name] = value(moments[name])


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (
            lambda s: spoil(s, "exp_avg", lambda m: m * float("nan")),
            "exp_avg of weight 0 with a value that no training",
        ),
        (lambda s: spoil(s, "exp_avg_sq", lambda m: m - 1), "exp_avg_sq of weight 0 with a value that no training"),
        (lambda s: spoil(s, "exp_avg", lambda m: m.flatten()[:3]), "exp_avg of weight 0 of size (3,), the weight has"),
        (lambda s: s["last_optimizer_state"]["state"][0].pop("exp_avg_sq"), "has no second moment of weight 0"),
        (lambda s: s["last_optimizer_state"]["state"][0].update(step=-1), "has step -1 of weight 0"),
        (lambda s: s["last_optimizer_state"]["param_groups"][0].update(betas=(2, 3)), "has betas (2, 3)"),
        (lambda s: s["last_optimizer_state"].pop("state"), "its state of the optimiser does not go with"),
        (lambda s: s["last_optimizer_state"]["param_groups"].clear(), "its state of the optimiser does not go with"),
        (lambda s: s.update(last_optimizer_state=[1]), "its state of the optimiser does not go with"),
    ],
    ids=["nan", "negative", "cut", "one moment", "step", "betas", "no state", "no groups", "a list"],
)
def test_a_damaged_state_of_the_optimiser_is_named(trained, tmp_path, damage, found):
    data, checkpoint = trained
    state = torch.load(checkpoint, weights_only=False)
    damage(state)
    torch.save(state, tmp_path / "damaged.pt")
    line = refused(*train_flags(data, tmp_path, "--restore-file", tmp_path / "damaged.pt", "--max-epoch", 2))
    assert line.startswith(f"error: {tmp_path / 'damaged.pt'}: its state of the optimiser ")
    assert found in line


@pytest.mark.parametrize("module", ["generate", "validate", "interactive"])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no such checkpoint"),
        (b"", "the file is empty"),
        (b"no checkpoint at all", "the file begins with b'no c'"),
        (b"PK\x03\x04cut", "the file is cut off or damaged"),
    ],
    ids=["missing", "empty", "text", "cut"],
)
def test_searches_name_a_file_that_is_no_checkpoint(trained, tmp_path, module, content, found):
    path = tmp_path / "none.pt"
    if content is not None:
        path.write_bytes(content)
    flags = [trained[0], *TASK, "--path", path, "--cpu", *(["--batch-size", 4] if module == "validate" else [])]
    said = run(*flags, module=f"fairseq_cli.{module}", stdin="red dog", fails=True)
    assert said.splitlines()[-1].startswith(f"error: {path}: ")
    assert found in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_damaged_last_checkpoint_is_named(trained, tmp_path):
    (tmp_path / "checkpoint_last.pt").write_bytes(trained[1].read_bytes()[:20000])
    line = refused(*train_flags(trained[0], tmp_path))
    assert line.startswith(f"error: {tmp_path / 'checkpoint_last.pt'}: ")
    assert "the file is cut off or damaged" in line


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = str(tmp_path / "checkpoint_last.pt")
    checkpoint_utils.torch_persistent_save({"model": torch.zeros(2)}, path)
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left") as caught:
            checkpoint_utils.torch_persistent_save({"model": torch.ones(2)}, path)
    assert caught.value.filename == path
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint_last.pt"]
    assert torch.equal(torch.load(path, weights_only=True)["model"], torch.zeros(2))


def test_one_training_at_a_time_writes_into_a_folder(trained, tmp_path):
    with locked_file(tmp_path / LOCK):
        line = refused(*train_flags(trained[0], tmp_path))
    assert line.startswith(f"error: {tmp_path}: another training is writing there")
    run(*train_flags(trained[0], tmp_path, "--max-epoch", 1))


def test_a_training_that_fails_at_once_leaves_no_folder(trained, tmp_path):
    refused(*train_flags(tmp_path / "no data-bin", tmp_path / "new" / "save"))
    assert not (tmp_path / "new" / "save").exists()
