"""examples/own_data and the steps of examples/recipes: what plan.py decides, that nothing is trained twice or mixed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import load_example
from fairseq import options

from cart_fairseq.files import write_json

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = [*sorted((ROOT / "examples").glob("*/*.sh")), ROOT / "examples" / "environment.sh"]
plan, report = load_example("recipes", "plan"), load_example("recipes", "report")


def manifest(
    train: int, valid: int | None = 1000, test: int | None = None, candidates: int = 100, symbols: int = 8
) -> dict:
    counts = {"train": train, "valid": valid, "test": test}
    return {
        "counts": {s: {"queries": n, "candidates": candidates} for s, n in counts.items() if n},
        "files": {"train.query-id.query.bin": {"bytes": 4 * train * symbols}},
        "index_captions": "include",
    }


def parsed(flags: list[str]):
    """Namespace that fairseq-train makes of the flags; unknown ones end the test."""
    everything = ["data-bin", "--user-dir", str(ROOT / "cart_fairseq"), "--save-dir", "checkpoints", *flags]
    return options.parse_args_and_arch(options.get_training_parser(), input_args=everything)


@pytest.mark.parametrize(("machine", "gpus"), [("cpu", 0), ("cuda", 1), ("cuda", 4)])
@pytest.mark.parametrize("valid", [1000, None])
def test_fairseq_takes_the_planned_flags(machine, gpus, valid):
    args = parsed(plan.train_flags(manifest(20_000, valid), machine, machine, gpus, []))
    recipe = plan.RECIPES[machine]
    assert (args.task, args.arch, args.criterion) == ("cart_retrieval", "cart", "cart_rdrop")
    assert args.encoder_embed_dim == args.decoder_embed_dim == recipe.width
    assert args.batch_size * max(1, gpus) == 256
    assert args.cpu is (machine == "cpu")
    assert args.disable_validation is (valid is None)
    assert (args.best_checkpoint_metric == "recall_at_1") is (valid is not None)
    assert args.lr_scheduler == "cosine"
    assert args.lr_shrink == 1
    assert args.adam_betas == "(0.9,0.98)"
    assert args.required_batch_size_multiple == 1


def test_longer_queries_and_more_of_them_get_fewer_epochs():
    def epochs(pairs, symbols):
        return parsed(plan.train_flags(manifest(pairs, symbols=symbols), "cpu", "cpu", 0, [])).max_epoch

    assert epochs(20_000, 3) > epochs(20_000, 15) > epochs(30_000, 15)
    assert epochs(10_000_000, 15) == plan.RECIPES["cpu"].epochs[0]
    assert epochs(10, 3) == plan.RECIPES["cpu"].epochs[1]


def test_users_flags_win_and_move_the_schedule():
    user = ["--max-epoch", "3", "--batch-size", "100", "--update-freq", "2", "--dropout", "0.5"]
    args = parsed([*plan.train_flags(manifest(2_000), "cpu", "cpu", 0, user), *user])
    assert (args.max_epoch, args.batch_size, args.dropout) == (3, 100, 0.5)
    assert args.warmup_updates + args.lr_period_updates == 3 * 10


def test_a_bound_in_updates_bounds_the_schedule():
    user = ["--max-update", "70"]
    args = parsed([*plan.train_flags(manifest(2_560, None), "cpu", "cpu", 0, user), *user])
    assert args.warmup_updates + args.lr_period_updates == 70
    assert args.max_update == 70
    assert args.max_epoch * -(-2_560 // args.batch_size) >= 70


def test_an_architecture_of_the_users_brings_its_sizes():
    user = ["--arch", "cart_tiny"]
    args = parsed([*plan.train_flags(manifest(2_000), "cpu", "cpu", 0, user), *user])
    assert (args.arch, args.encoder_embed_dim, args.encoder_layers) == ("cart_tiny", 64, 2)


@pytest.mark.parametrize("pairs", [1, 30, 400, 20_000, 3_000_000])
def test_schedule_covers_the_run_for_any_size(pairs):
    args = parsed(plan.train_flags(manifest(pairs), "cpu", "cpu", 0, []))
    low, high = plan.RECIPES["cpu"].epochs
    assert low <= args.max_epoch <= high
    assert 16 <= args.batch_size <= 256
    assert args.warmup_updates + args.lr_period_updates >= args.max_epoch * -(-pairs // args.batch_size)
    assert args.validate_interval * pairs >= 1000


@pytest.mark.parametrize("epochs", [1, 6, 7, 12, 20])
def test_the_last_epoch_is_validated(epochs):
    for recipe, most in (("cpu", epochs), ("joined", 3)):
        args = parsed(plan.train_flags(manifest(5_000), recipe, "cpu", 0, ["--max-epoch", str(epochs)]))
        assert epochs % args.validate_interval == 0
        assert epochs // args.validate_interval <= most


@pytest.mark.parametrize(
    ("items", "clusters", "collapse"), [(1, 1, True), (80, 10, True), (1024, 128, False), (8000, 128, False)]
)
def test_identifier_flags_follow_the_number_of_items(items, clusters, collapse):
    flags = plan.identifier_flags(items, "cpu")
    assert flags[:4] == ["--kmeans-clusters", str(clusters), "--codebook-size", str(clusters)]
    assert ("--allow-collapse" in flags) is collapse
    assert flags[5] == "500"


def test_rqvae_epochs_shrink_on_cpu_only():
    assert plan.identifier_flags(1_000_000, "cpu")[5] == "50"
    assert plan.identifier_flags(1_000_000, "cuda")[5] == "500"


@pytest.mark.parametrize(("pairs", "gpus"), [(300_000, 1), (300_000, 4), (80_000, 0)])
def test_the_paper_s_recipe_follows_appendix_c_whatever_the_data(pairs, gpus):
    machine = "cuda" if gpus else "cpu"
    args = parsed(plan.train_flags(manifest(pairs), "paper", machine, gpus, []))
    per_epoch = -(-pairs // 256)
    assert args.batch_size * max(1, gpus) == 256
    assert (args.max_epoch, args.patience) == (100, 10)
    assert (args.lr, args.warmup_init_lr, args.warmup_updates) == ([1e-4], 1e-6, 5 * per_epoch)
    assert args.warmup_updates + args.lr_period_updates == 100 * per_epoch
    assert (args.encoder_embed_dim, args.encoder_layers, args.decoder_layers) == (512, 3, 3)
    assert (args.consistency_weight, args.label_smoothing, args.clip_norm) == (0.15, 0.0, 0.0)
    assert (args.eval_beam, args.shared_encoder) == (30, False)
    identifiers = plan.identifier_flags(1970, "paper")
    assert identifiers == ["--kmeans-clusters", "128", "--codebook-size", "128", "--epochs", "500"]


def test_an_unknown_recipe_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RECIPE", "papers")
    with pytest.raises(ValueError, match="RECIPE is 'papers'; use one of paper, cuda, cpu"):
        plan.main(["prepare", str(tmp_path)])


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


def needed(out: Path, *user: str) -> str:
    return plan.plan_training(out, user, "cpu", "cpu", 0)["train_needed"]


def test_training_resumes_until_complete_and_is_then_skipped(out):
    assert needed(out) == "yes"
    last = checkpoint(out)
    assert needed(out) == "yes"
    plan.note_trained(out)
    assert plan.plan_measuring(out, "cuda") == {
        "checkpoint": str(last),
        "measured": ["valid", "test"],
        "sets": ["split"],
        "device_flags": [],
        "beam": "30",
        "tuned": "no",
    }
    assert needed(out) == "no"
    assert needed(out) == "no"
    assert needed(out, "--max-epoch", "50") == "yes"
    best = checkpoint(out, "checkpoint_best.pt")
    plan.note_trained(out)
    assert plan.plan_measuring(out, "cuda")["checkpoint"] == str(best)
    assert needed(out, "--max-epoch", "50") == "no"


def test_nothing_is_measured_before_training_is_complete(out):
    message = "checkpoints: training is not complete"
    with pytest.raises(ValueError, match=message):
        plan.plan_measuring(out, "cpu")
    needed(out)
    checkpoint(out)
    with pytest.raises(ValueError, match=message):
        plan.plan_measuring(out, "cpu")


@pytest.mark.parametrize(("machine", "user", "flags"), [("cpu", [], ["--cpu"]), ("cuda", ["--cpu"], ["--cpu"])])
def test_measured_on_the_processor_where_there_is_no_gpu_or_training_kept_off_it(out, machine, user, flags):
    needed(out, *user)
    checkpoint(out)
    plan.note_trained(out)
    assert plan.plan_measuring(out, machine)["device_flags"] == flags


def test_both_candidate_sets_are_measured_where_they_differ(out):
    checkpoint(out)
    needed(out)
    plan.note_trained(out)
    write_json(out / "data-bin/identifiers/manifest.json", {"items": 8})
    assert plan.plan_measuring(out, "cpu")["sets"] == ["split", "all"]
    write_json(out / "data-bin/manifest.json", manifest(500, None))
    assert plan.plan_measuring(out, "cpu")["measured"] == []


def test_checkpoints_of_another_model_or_other_data_are_not_mixed(out):
    needed(out, "--encoder-layers", "1")
    checkpoint(out)
    assert needed(out, "--encoder-layers", "1", "--max-epoch=9", "--cpu") == "yes"
    with pytest.raises(ValueError, match=r"trained with other flags \(--encoder-layers 1\); choose another OUT"):
        needed(out, "--encoder-layers", "2")
    write_json(out / "data-bin/manifest.json", manifest(501))
    with pytest.raises(ValueError, match="trained on other data"):
        needed(out, "--encoder-layers", "1")
    (out / "checkpoints/checkpoint_last.pt").unlink()
    assert needed(out, "--encoder-layers", "2") == "yes"


def test_a_model_keeps_its_size_on_another_machine(out):
    needed(out)
    checkpoint(out)
    flags = plan.plan_training(out, [], "cuda", "cuda", 2)["train_flags"]
    assert parsed(flags).encoder_embed_dim == plan.RECIPES["cpu"].width
    assert "--cpu" not in flags


def test_training_without_a_checkpoint_is_an_error(out):
    needed(out)
    with pytest.raises(ValueError, match="training left no checkpoint"):
        plan.note_trained(out)


@pytest.mark.parametrize("flag", ["--save-dir=x", "--task"])
def test_flags_that_the_recipe_owns_are_refused(out, flag):
    with pytest.raises(ValueError, match="is set by the recipe"):
        needed(out, flag)


def test_shell_assignments_survive_bash():
    values = {"one": "it's $HOME", "many": ["(0.9,0.98)", "a b", "*"], "none": []}
    script = plan.shell(values) + '\nprintf "%s|" "$one" "${many[@]}" "${#none[@]}"'
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert found == "it's $HOME|(0.9,0.98)|a b|*|0|"


def test_table_names_what_competed():
    row = {"recall_at_1": 12.345, "recall_at_5": 20.0, "recall_at_10": 30.0, "mrr_at_10": 15.0, "queries": 4000}
    found = {"split": {"valid": {**row, "candidates": 1000}}, "all": {"valid": {**row, "candidates": 8000}}}
    lines = report.table(found, {"index_captions": "include", "valid_held_out": False}).splitlines()
    assert lines[1].split() == ["valid", "4,000", "1,000", "(of", "the", "split)", "12.3", "20.0", "30.0", "15.0"]
    assert lines[2].split() == ["valid", "4,000", "8,000", "(all", "items)", "12.3", "20.0", "30.0", "15.0"]
    assert lines[3].endswith("in training: include")
    assert len(lines) == 4
    beside = report.table(found, {"index_captions": "include", "valid_held_out": False}, [81.8, 96.1, 98.4, 88.0])
    assert beside.splitlines()[3].split() == ["test", "(the", "paper)", "81.8", "96.1", "98.4", "88.0"]
    assert len(beside.splitlines()[3]) == len(lines[2])
    assert "no queries to measure on" in report.table({"split": {}, "all": {}}, {})


def test_metrics_json_is_empty_where_nothing_is_measured(tmp_path):
    assert report.collect(tmp_path) == {"split": {}, "all": {}}
    write_json(tmp_path / "results/split/metrics.test.json", {"recall_at_1": 1.0})
    assert report.collect(tmp_path)["split"] == {"test": {"recall_at_1": 1.0}}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_parse(script):
    for checker in (["bash", "-n"], ["shellcheck", "-x", "-P", "SCRIPTDIR"]):
        if shutil.which(checker[0]):
            found = subprocess.run([*checker, str(script)], capture_output=True, text=True, check=False)
            assert found.returncode == 0, found.stdout + found.stderr


SOURCED = ("environment.sh", "steps.sh")


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.name not in SOURCED], ids=lambda path: path.parent.name)
def test_scripts_explain_themselves_without_arguments(script):
    result = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"usage: bash {script} " in result.stderr
    assert "OUT" in result.stderr


def test_bad_data_stops_run_sh_with_its_message(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/items.jsonl").write_text(json.dumps({"item_id": "a"}) + "\n" + "{\n")
    command = ["bash", str(ROOT / "examples/own_data/run.sh"), "data", "out"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
    )
    assert result.returncode == 2
    assert "items.jsonl, row 2: broken JSON" in result.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "items.jsonl", "out"]
