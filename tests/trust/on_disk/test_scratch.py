"""What a killed command left is removed; what belongs to a living one, or to another name, stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cart_fairseq.base.files import remove_scratch, replacing
from preprocess.data.output import Kind, Made, Output

PARCEL = Kind("parcel", lambda path: Made(None), lambda path: path / "parcel.json")
WRITER = """
import os, sys
from pathlib import Path
from cart_fairseq.base.files import replacing
with replacing(Path(sys.argv[1]), directory=True) as new:
    (new / "half").write_text("half")
    print("begun", flush=True)
    sys.stdin.read()
"""


def scratch(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith((".tmp", ".new")))


def writer(target: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("name", ["out", "out.v2", "o[u]t", "*"])
def test_the_scratch_of_a_living_process_stays_and_of_a_dead_one_goes(tmp_path: Path, name: str):
    process = writer(tmp_path / name)
    try:
        (begun,) = scratch(tmp_path)
        assert begun.startswith(f".{name}.")
        for other in ("out", "out.v2", "*", "?ut", name):
            Output(tmp_path / other, PARCEL).remove_leftovers()
        remove_scratch(tmp_path)
        assert scratch(tmp_path) == [begun]
    finally:
        process.kill()
        process.wait()
    assert scratch(tmp_path) == [begun]
    for other in ("ou", "o?t", "out.", ".out", "x"):
        remove_scratch(tmp_path, other)
    assert scratch(tmp_path) == [begun]
    remove_scratch(tmp_path, name)
    assert scratch(tmp_path) == []


def test_a_living_process_finishes_although_another_cleans_up(tmp_path: Path):
    process = writer(tmp_path / "out")
    Output(tmp_path / "out", PARCEL).remove_leftovers()
    process.communicate("")
    assert process.returncode == 0
    assert (tmp_path / "out" / "half").read_text() == "half"
    assert scratch(tmp_path) == []


def test_names_of_the_user_stay(tmp_path: Path):
    names = [".out.tmp", ".out.notes.tmp", ".out.ABCDEFGH.tmp", ".out.v2.abcd_123.tmp", "out.abcd_123.tmp"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".out.file_123.tmp").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    (tmp_path / ".out.link_123.tmp").symlink_to(tmp_path / "elsewhere")
    before = sorted(os.listdir(tmp_path))
    (tmp_path / ".out.abcd_123.tmp").mkdir()
    remove_scratch(tmp_path, "out")
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "elsewhere" / "mine").read_text() == "mine"


def test_replacing_leaves_nothing_after_an_error(tmp_path: Path):
    with pytest.raises(KeyError), replacing(tmp_path / "out"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


KILLED_BETWEEN = """
import os, sys
from pathlib import Path
from cart_fairseq.base.files import replacing
rename = Path.rename
def killed(self, target):
    rename(self, target)
    os._exit(9)
Path.rename = killed
with replacing(Path(sys.argv[1]), directory=True) as new:
    (new / "made").write_text("new")
"""


def test_a_folder_survives_a_kill_between_the_two_renames_of_its_replacement(tmp_path: Path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "made").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED_BETWEEN, str(target)], check=False)
    assert not target.exists()
    remove_scratch(tmp_path, "out")
    assert (target / "made").read_text() == "old"
    assert scratch(tmp_path) == []
