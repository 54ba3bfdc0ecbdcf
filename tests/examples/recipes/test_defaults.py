"""Defaults of the recipes: flags that follow from the size of the data, the recipe and the machine."""

from pathlib import Path

import pytest
from conftest import load_example
from fairseq import options
from recipe_samples import manifest

ROOT = Path(__file__).resolve().parents[3]
defaults, schedules = load_example("recipes", "defaults"), load_example("recipes", "schedules")
Machine = defaults.Machine
CPU = Machine("cpu")


def parsed(flags: list[str]):
    """Namespace that fairseq-train makes of the flags; unknown ones end the test."""
    everything = ["data-bin", "--user-dir", str(ROOT / "cart_fairseq"), "--save-dir", "checkpoints", *flags]
    return options.parse_args_and_arch(options.get_training_parser(), input_args=everything)


@pytest.mark.parametrize(("machine", "gpus"), [("cpu", 0), ("cuda", 1), ("cuda", 4)])
@pytest.mark.parametrize("valid", [1000, None])
def test_fairseq_takes_the_planned_flags(machine, gpus, valid):
    args = parsed(defaults.train_flags(manifest(20_000, valid), machine, Machine(machine, gpus), []))
    recipe = schedules.RECIPES[machine]
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
        return parsed(defaults.train_flags(manifest(pairs, symbols=symbols), "cpu", CPU, [])).max_epoch

    assert epochs(20_000, 3) > epochs(20_000, 15) > epochs(30_000, 15)
    assert epochs(10_000_000, 15) == schedules.RECIPES["cpu"].epochs[0]
    assert epochs(10, 3) == schedules.RECIPES["cpu"].epochs[1]


def test_users_flags_win_and_move_the_schedule():
    user = ["--max-epoch", "3", "--batch-size", "100", "--update-freq", "2", "--dropout", "0.5"]
    args = parsed([*defaults.train_flags(manifest(2_000), "cpu", CPU, user), *user])
    assert (args.max_epoch, args.batch_size, args.dropout) == (3, 100, 0.5)
    assert args.warmup_updates + args.lr_period_updates == 3 * 10


def test_a_bound_in_updates_bounds_the_schedule():
    user = ["--max-update", "70"]
    args = parsed([*defaults.train_flags(manifest(2_560, None), "cpu", CPU, user), *user])
    assert args.warmup_updates + args.lr_period_updates == 70
    assert args.max_update == 70
    assert args.max_epoch * -(-2_560 // args.batch_size) >= 70


@pytest.mark.parametrize("flag", ["--arch", "-a"])
def test_an_architecture_of_the_users_brings_its_sizes(flag):
    user = [flag, "cart_tiny"]
    args = parsed([*defaults.train_flags(manifest(2_000), "cpu", CPU, user), *user])
    assert (args.arch, args.encoder_embed_dim, args.encoder_layers) == ("cart_tiny", 64, 2)


@pytest.mark.parametrize("pairs", [1, 30, 400, 20_000, 3_000_000])
def test_schedule_covers_the_run_for_any_size(pairs):
    args = parsed(defaults.train_flags(manifest(pairs), "cpu", CPU, []))
    low, high = schedules.RECIPES["cpu"].epochs
    assert low <= args.max_epoch <= high
    assert 16 <= args.batch_size <= 256
    assert args.warmup_updates + args.lr_period_updates >= args.max_epoch * -(-pairs // args.batch_size)
    assert args.validate_interval * pairs >= 1000


@pytest.mark.parametrize("epochs", [1, 6, 7, 12, 20])
def test_the_last_epoch_is_validated(epochs):
    for recipe, most in (("cpu", epochs), ("joined", 3)):
        args = parsed(defaults.train_flags(manifest(5_000), recipe, CPU, ["--max-epoch", str(epochs)]))
        assert epochs % args.validate_interval == 0
        assert epochs // args.validate_interval <= most


@pytest.mark.parametrize(
    ("items", "clusters", "collapse"), [(1, 1, True), (80, 10, True), (1024, 128, False), (8000, 128, False)]
)
def test_identifier_flags_follow_the_number_of_items(items, clusters, collapse):
    flags = defaults.identifier_flags(items, "cpu")
    assert flags[:4] == ["--kmeans-clusters", str(clusters), "--codebook-size", str(clusters)]
    assert ("--allow-collapse" in flags) is collapse
    assert flags[5] == "500"


def test_rqvae_epochs_shrink_on_cpu_only():
    assert defaults.identifier_flags(1_000_000, "cpu")[5] == "50"
    assert defaults.identifier_flags(1_000_000, "cuda")[5] == "500"


@pytest.mark.parametrize(("pairs", "gpus"), [(300_000, 1), (300_000, 4), (80_000, 0)])
def test_the_paper_s_recipe_follows_appendix_c_whatever_the_data(pairs, gpus):
    machine = "cuda" if gpus else "cpu"
    args = parsed(defaults.train_flags(manifest(pairs), "paper", Machine(machine, gpus), []))
    per_epoch = -(-pairs // 256)
    assert args.batch_size * max(1, gpus) == 256
    assert (args.max_epoch, args.patience) == (100, 10)
    assert (args.lr, args.warmup_init_lr, args.warmup_updates) == ([1e-4], 1e-6, 5 * per_epoch)
    assert args.warmup_updates + args.lr_period_updates == 100 * per_epoch
    assert (args.encoder_embed_dim, args.encoder_layers, args.decoder_layers) == (512, 3, 3)
    assert (args.consistency_weight, args.label_smoothing, args.clip_norm) == (0.15, 0.0, 0.0)
    assert (args.eval_beam, args.shared_encoder) == (30, False)
    identifiers = defaults.identifier_flags(1970, "paper")
    assert identifiers == ["--kmeans-clusters", "128", "--codebook-size", "128", "--epochs", "500", "--faithful"]
    assert args.float32_matmul_precision == "highest"
