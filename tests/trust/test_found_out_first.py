"""What cannot be written is found out before anything long is done, and a long step says in a log that it began."""

import os
import shutil
from pathlib import Path

import pytest
from mutations import COMMANDS, OLD, make_world

from cart_fairseq import evaluate, tune
from cart_fairseq.base.files import refuse_unwritable
from cart_fairseq.base.progress import Progress
from cart_fairseq.steps import tuning


def full(*_: object, **__: object) -> None:
    raise AssertionError("searched before it was known whether the result can be written")


@pytest.mark.parametrize("flags", [["--json", "file/m.json"], ["--json", "folder"]])
def test_commands_find_out_first_whether_they_can_write(flags: list[str], tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    monkeypatch.setattr("cart_fairseq.steps.tuning.tune", full)
    monkeypatch.setattr("cart_fairseq.steps.evaluation.evaluate", full)
    for command in (tune, evaluate):
        with pytest.raises(ValueError, match=rf"^{flags[1]}: cannot be written \("):
            command.main(["--data", "data-bin", "--path", "checkpoint.pt", *flags])
    with pytest.raises(ValueError, match=r"^folder: cannot be written \("):
        evaluate.main(["--data", "data-bin", "--path", "checkpoint.pt", "--trec-run", "folder"])


def test_tune_finds_out_before_it_searches(tmp_path: Path, monkeypatch):
    (tmp_path / "plain.pt").write_bytes((OLD / "plain.pt").read_bytes())
    monkeypatch.setattr(tuning, "search_subset", full)

    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, os.strerror(13), str(tmp_path))

    monkeypatch.setattr("tempfile.mkdtemp", refused)
    with pytest.raises(ValueError, match=r"plain\.pt: cannot be written \(Permission denied\)"):
        tuning.tune(tmp_path / "plain.pt", OLD / "plain" / "data-bin")


def test_what_can_be_written_leaves_nothing(tmp_path: Path):
    refuse_unwritable(tmp_path / "a" / "m.json", None)
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


def test_a_long_step_says_in_a_log_that_it_began(capsys):
    with Progress(500, "RQ-VAE", "epochs", announce="500 epochs of 10 rows"):
        assert capsys.readouterr().err == "RQ-VAE: 500 epochs of 10 rows\n"


def test_an_output_that_is_a_link_to_a_folder_fills_the_folder(tmp_path: Path, monkeypatch):
    make_world(tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    Path("elsewhere").mkdir()
    Path("out").symlink_to("elsewhere")
    for command in ("build", "binarize", "join", "clotho"):
        main, flags = COMMANDS[command]
        for _ in range(2):
            main(flags.split())
        assert Path("out").is_symlink()
        assert any(Path("elsewhere").iterdir()), command
        shutil.rmtree("elsewhere")
        Path("elsewhere").mkdir()
