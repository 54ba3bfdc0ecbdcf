"""What plan.py decides: nothing is trained twice, and no two models are mixed."""

from pathlib import Path

import pytest
from conftest import load_example
from recipe_samples import manifest

from cart_fairseq.base.files import write_json

plan, defaults = load_example("recipes", "plan"), load_example("recipes", "defaults")
Machine = defaults.Machine
CPU = Machine("cpu")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_json(tmp_path / "data-bin/manifest.json", manifest(500, 20, 30, candidates=7))
    write_json(tmp_path / "data-bin/identifiers/manifest.json", {"items": 7})
    return tmp_path


def checkpoint(out: Path, name: str = "checkpoint_last.pt") -> Path:
    path = out / "checkpoints" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"weights")
    return path


def needed(out: Path, *user: str) -> bool:
    return plan.plan_training(out, user, "cpu", CPU).needed


def test_training_resumes_until_complete_and_is_then_skipped(out):
    assert needed(out)
    last = checkpoint(out)
    assert needed(out)
    plan.note_trained(out)
    assert plan.plan_measuring(out, Machine("cuda", 1)) == plan.Measuring(
        checkpoint=last,
        subsets=["valid", "test"],
        candidate_sets=["split"],
        device_flags=[],
        beam=30,
        tuned=False,
        precision="auto",
    )
    assert not needed(out)
    assert not needed(out)
    assert needed(out, "--max-epoch", "50")
    best = checkpoint(out, "checkpoint_best.pt")
    plan.note_trained(out)
    assert plan.plan_measuring(out, Machine("cuda", 1)).checkpoint == best
    assert not needed(out, "--max-epoch", "50")


@pytest.mark.parametrize("recipe", ["paper", "cuda", "cpu"])
def test_only_the_paper_s_recipe_searches_in_float32_alone(out, recipe):
    plan.plan_training(out, [], recipe, CPU)
    checkpoint(out)
    plan.note_trained(out)
    assert plan.plan_measuring(out, CPU).precision == ("float32" if recipe == "paper" else "auto")


def test_nothing_is_measured_before_training_is_complete(out):
    message = "checkpoints: training is not complete"
    with pytest.raises(ValueError, match=message):
        plan.plan_measuring(out, CPU)
    needed(out)
    checkpoint(out)
    with pytest.raises(ValueError, match=message):
        plan.plan_measuring(out, CPU)


@pytest.mark.parametrize(("machine", "user", "flags"), [("cpu", [], ["--cpu"]), ("cuda", ["--cpu"], ["--cpu"])])
def test_measured_on_the_processor_where_there_is_no_gpu_or_training_kept_off_it(out, machine, user, flags):
    needed(out, *user)
    checkpoint(out)
    plan.note_trained(out)
    assert plan.plan_measuring(out, Machine(machine)).device_flags == flags


def test_both_candidate_sets_are_measured_where_they_differ(out):
    checkpoint(out)
    needed(out)
    plan.note_trained(out)
    write_json(out / "data-bin/identifiers/manifest.json", {"items": 8})
    assert plan.plan_measuring(out, CPU).candidate_sets == ["split", "all"]
    write_json(out / "data-bin/manifest.json", manifest(500, None))
    assert plan.plan_measuring(out, CPU).subsets == []


def test_checkpoints_of_another_model_or_other_data_are_not_mixed(out):
    needed(out, "--encoder-layers", "1")
    checkpoint(out)
    assert needed(out, "--encoder-layers", "1", "--max-epoch=9", "--cpu")
    with pytest.raises(ValueError, match=r"trained with other flags \(--encoder-layers 1\); choose another OUT"):
        needed(out, "--encoder-layers", "2")
    write_json(out / "data-bin/manifest.json", manifest(501))
    with pytest.raises(ValueError, match="trained on other data"):
        needed(out, "--encoder-layers", "1")
    (out / "checkpoints/checkpoint_last.pt").unlink()
    assert needed(out, "--encoder-layers", "2")


def test_a_model_keeps_its_size_on_another_machine(out):
    needed(out)
    checkpoint(out)
    flags = plan.plan_training(out, [], "cuda", Machine("cuda", 2)).flags
    assert flags[flags.index("--encoder-embed-dim") + 1] == str(defaults.RECIPES["cpu"].width)
    assert "--cpu" not in flags


def test_training_without_a_checkpoint_is_an_error(out):
    needed(out)
    with pytest.raises(ValueError, match="training left no checkpoint"):
        plan.note_trained(out)


@pytest.mark.parametrize("flag", ["--save-dir=x", "--task"])
def test_flags_that_the_recipe_owns_are_refused(out, flag):
    with pytest.raises(ValueError, match="is set by the recipe"):
        needed(out, flag)
