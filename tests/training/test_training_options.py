"""Options of `fairseq-train` that would fail in training, or train something else, are refused before data are read."""

import shlex
from pathlib import Path

import pytest
from commands import REPOSITORY, run, train_flags

from cart_fairseq.tasks import plugin  # noqa: F401 - before fairseq, to register the tasks

from fairseq import options  # isort: skip
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # isort: skip

from cart_fairseq.tasks.training_options import check_training

GOOD = "--best-checkpoint-metric recall_at_1 --maximize-best-checkpoint-metric"
RQVAE = (
    "residuals.npy --task cart_rqvae --arch cart_rqvae --criterion cart_rqvae --optimizer adam --lr 0.1 --batch-size 8"
)
WRONG = {
    "--adam-betas maybe": "--adam-betas is 'maybe'; give two numbers from 0 to below 1",
    "--adam-betas '(0.9, 2)'": "--adam-betas is",
    "--adam-betas __import__": "--adam-betas is",
    "--adam-eps -1": "--adam-eps is -1.0; it must not be below 0",
    "--weight-decay -1": "--weight-decay is -1.0; it must not be below 0",
    "--lr -1": "--lr is [-1.0]; it must not be below 0",
    "--lr-scheduler inverse_sqrt --warmup-updates 0": "--lr-scheduler inverse_sqrt do not go with their options",
    "--lr-scheduler cosine --lr-period-updates 0": "--lr-period-updates must be set",
    "--best-checkpoint-metric nope": "--best-checkpoint-metric is 'nope', which no validation reports; give one of loss",
    "--best-checkpoint-metric ppl": "which no validation reports",
    "--restore-file nope.pt": "--restore-file is nope.pt; there is no such file",
    "--restore-file /": "--restore-file is /, a folder; give a checkpoint, such as checkpoint_last.pt in it",
    "--finetune-from-model nope.pt": "--finetune-from-model is nope.pt; there is no such file",
    "--train-subset nope": "--train-subset names 'nope'; the subsets of a data-bin are train, valid, test",
    "--valid-subset valid,dev": "--valid-subset names 'dev'",
    "--save-interval 0": "--save-interval is 0; it must be at least 1",
    "--validate-interval 0": "--validate-interval is 0; it must be at least 1",
    "--log-interval 0": "--log-interval is 0; it must be at least 1",
    "--update-freq 0": "--update-freq is [0]; it must be at least 1",
    "--max-valid-steps -1": "--max-valid-steps is -1; it must be at least 0",
    "--num-workers -3": "--num-workers is -3; it must be at least 0",
    "--arch transformer": "--arch is transformer; --task cart_retrieval trains cart, cart_",
    "--curriculum -2": "--curriculum is -2; it must be at least 0",
    "--clip-norm -1": "--clip-norm is -1.0; it must be at least 0",
    "--clip-norm nan": "--clip-norm is nan; it must be at least 0",
    "--max-epoch -1": "--max-epoch is -1; it must be at least 0",
    "--checkpoint-suffix /x": "--checkpoint-suffix is '/x', a path",
    "--optimizer-overrides {bad": "--optimizer-overrides is '{bad'; give a dictionary",
    "--write-checkpoints-asynchronously": "needs the package iopath",
}


def parsed(flags: str):
    given = map(str, train_flags(Path("data-bin"), Path("save")))
    words = [word for word in given if word not in GOOD.split()]
    return configured([*words, *shlex.split(flags)])


def configured(words: list[str]):
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=words)
    return convert_namespace_to_omegaconf(args)


@pytest.mark.parametrize("flags", WRONG)
def test_wrong_options_are_named(flags: str):
    with pytest.raises(ValueError) as refused:
        check_training(parsed(f"{GOOD} {flags}"))
    assert WRONG[flags] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_metric_is_compared_the_right_way_round():
    with pytest.raises(ValueError, match="the worst checkpoint would be kept; add --maximize-best-checkpoint-metric"):
        check_training(parsed("--best-checkpoint-metric recall_at_1"))
    with pytest.raises(ValueError, match="keeps the worst checkpoint by loss; leave it out"):
        check_training(parsed("--maximize-best-checkpoint-metric"))


@pytest.mark.parametrize(
    "flags",
    [
        GOOD,
        "--best-checkpoint-metric nll_loss",
        "--best-checkpoint-metric nope --disable-validation",
        f"--restore-file {REPOSITORY / 'README.md'} {GOOD}",
        f"{GOOD} --lr-scheduler cosine --warmup-updates 10 --max-update 100",
        f"{GOOD} --criterion label_smoothed_cross_entropy",
        "--criterion label_smoothed_cross_entropy --report-accuracy --best-checkpoint-metric accuracy "
        "--maximize-best-checkpoint-metric",
        f"{GOOD} --optimizer sgd --lr-scheduler reduce_lr_on_plateau",
    ],
)
def test_right_options_pass(flags: str):
    check_training(parsed(flags))


def test_the_rqvae_has_metrics_and_subsets_of_its_own():
    check_training(configured(f"{RQVAE} --valid-subset any --best-checkpoint-metric reconstruction_loss".split()))
    with pytest.raises(ValueError, match="recall_at_1', which no validation reports; give one of loss, reconstruction"):
        check_training(configured(f"{RQVAE} {GOOD}".split()))


def test_fairseq_train_checks_before_it_reads_data(tmp_path: Path):
    flags = train_flags(tmp_path / "no data-bin", tmp_path / "save")
    said = run(*flags, "--best-checkpoint-metric", "nope", fails=True)
    assert said.splitlines()[-1].startswith("error: --best-checkpoint-metric is 'nope', which no validation reports")
    assert not (tmp_path / "save").exists()
