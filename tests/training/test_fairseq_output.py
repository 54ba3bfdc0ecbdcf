"""fairseq's commands show no warnings that only fairseq's authors can act on, and every other one."""

import subprocess
import sys
import warnings

import pytest
from changing import make_data_bin, one_epoch
from commands import ENVIRONMENT, refused, run, train_flags

from cart_fairseq.tasks import command_output


def test_a_training_has_no_warnings(tmp_path):
    data = make_data_bin(tmp_path)
    said = run(*train_flags(data, tmp_path / "save", "--max-epoch", 1), cold=True)
    assert "Warning" not in said


def test_scripts_keep_their_filters():
    ours = "[f for f in warnings.filters if f[1] and 'pin_memory' in f[1].pattern]"
    code = f"import cart_fairseq, warnings, fairseq; print({ours}); import fairseq_cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout == "[]\n"


def test_other_warnings_are_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "fairseq_cli", sys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        command_output.install()
        warnings.warn("`torch.cuda.amp.autocast(args...)` is deprecated.", FutureWarning, stacklevel=1)
        warnings.warn(
            "\n'config' is validated against ConfigStore schema with the same name.", UserWarning, stacklevel=1
        )
        with pytest.raises(UserWarning, match="of the user's data"):
            warnings.warn("of the user's data", UserWarning, stacklevel=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return one_epoch(tmp_path_factory.mktemp("trained"))


def test_a_schedule_without_its_total_is_named(trained, tmp_path):
    line = refused(*train_flags(trained[0], tmp_path, "--lr-scheduler", "polynomial_decay"))
    assert line.startswith("error: --total-num-update is missing; give --total-num-update")


def test_what_fairseq_and_python_say_is_shown_without_a_log(trained, tmp_path):
    said = run(*train_flags(trained[0], tmp_path, "--seed", -1), fails=True)
    assert said.splitlines()[-1].startswith("error: --seed is -1; it must be at least 0")
    said = run(*train_flags(trained[0], tmp_path), "--optimizer", "lamb", fails=True)
    assert said.splitlines()[-1].endswith("; install it, or leave out the flag that needs it")
