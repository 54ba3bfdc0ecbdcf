"""Copies of checkpoints that fairseq makes: whole or not at all."""

import shutil
from pathlib import Path

import pytest
from fairseq.file_io import PathManager

import cart_fairseq.tasks.plugin  # noqa: F401 - installs it


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
