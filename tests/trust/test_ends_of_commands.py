"""However a command ends, it says so in one line, and the exit code tells bad input from a fault of the program."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_json

ROOT = Path(__file__).resolve().parents[2]


def ours() -> None:
    read_json("none.json")


def of_the_system() -> None:
    open("none/file.txt")  # noqa: SIM115


def not_allowed() -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "secret.json")


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def of_a_library() -> None:
    json.loads("{")


def of_python() -> None:
    int("x" * 1000)


def a_key() -> None:
    {"kind": 1}["bytes"]


def a_test_of_ours() -> None:
    raise ValueError("of code that is not the project's")


def memory() -> None:
    raise MemoryError


def nameless() -> None:
    raise OSError("Unable to open file")


EXPECTED = {
    ours: "error: none.json: no such file; make it again with the step that writes it",
    of_the_system: "error: none/file.txt: No such file or directory; check the path",
    not_allowed: "error: secret.json: Permission denied; give your account the right",
    full: "error: No space left on device; make room",
}


@pytest.mark.parametrize("fault", EXPECTED, ids=lambda fault: fault.__name__)
def test_expected_errors_end_in_one_line_with_code_2(fault: Callable[[], None], tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run_script(fault)
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert line.startswith(EXPECTED[fault])


@pytest.mark.parametrize("fault", [of_a_library, of_python, a_key, a_test_of_ours, memory, nameless])
def test_what_names_no_file_ends_in_one_line_with_code_1_and_a_log(fault, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        run_script(fault)
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 1
    assert line.startswith("error: unexpected ")
    (log,) = tmp_path.iterdir()
    assert line.endswith(str(log))
    assert f"in {fault.__name__}" in log.read_text(encoding="utf-8")


def test_a_log_that_cannot_be_written_hides_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(SystemExit) as end:
        run_script(a_key)
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 1
    assert "unexpected KeyError: 'bytes' (test_ends_of_commands.py, line " in line
    assert "no log of it could be written" in line


def test_names_that_are_no_unicode_are_printed(capsys):
    with pytest.raises(SystemExit):
        run_script(lambda: Path("\udcff.json").unlink())
    assert capsys.readouterr().err == "error: \\udcff.json: No such file or directory; check the path\n"


def test_ctrl_c_ends_in_one_line(tmp_path: Path):
    # a shell starts what it puts in the background with SIGINT ignored
    code = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from cart_fairseq.base.processes import run_script\nprint('on', flush=True); run_script(lambda: time.sleep(60))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, len(err.splitlines())) == (130, 1)
    assert err.startswith("interrupted: ")


def test_an_output_that_is_closed_early_is_no_fault():
    code = "from cart_fairseq.base.processes import run_script\nrun_script(lambda: [print('x' * 100) for _ in range(100000)])"
    command = f'{sys.executable} -c "{code}" | head -1 >{os.devnull}; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "2\n"
    assert done.stderr.splitlines() == [
        "error: standard output was closed before the end; save it to a file to have all of it"
    ]
