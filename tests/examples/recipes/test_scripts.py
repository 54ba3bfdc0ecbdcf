"""The scripts that people type: each is an exec of one program, and says how to call it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_calls import run

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted([*EXAMPLES.glob("*/*.sh"), EXAMPLES / "gpu.sh"])
BODY = """set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/UPenvironment.sh"
exec "$PYTHON" "$root/examples/recipes/run.py" NAME "$@"
"""


def name_of(script: Path) -> str:
    return str(script.relative_to(EXAMPLES).with_suffix(""))


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_is_a_comment_and_an_exec(script):
    lines = script.read_text(encoding="utf-8").splitlines(keepends=True)
    code = "".join(line for line in lines if not line.startswith("#") and line.strip())
    assert code == BODY.replace("NAME", name_of(script)).replace("UP", "../" * (script.parent != EXAMPLES))
    assert lines[0] == "#!/usr/bin/env bash\n"
    assert f"bash examples/{name_of(script)}.sh " in "".join(lines)


def test_every_command_has_a_script():
    assert sorted(run.COMMANDS) == sorted(map(name_of, SCRIPTS))


@pytest.mark.parametrize("script", [*SCRIPTS, EXAMPLES / "environment.sh"], ids=name_of)
def test_scripts_parse(script):
    for checker in (["bash", "-n"], ["shellcheck", "-x", "-P", "SCRIPTDIR"]):
        if shutil.which(checker[0]):
            found = subprocess.run([*checker, str(script)], capture_output=True, text=True, check=False)
            assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", run.COMMANDS)
def test_scripts_explain_themselves(name, capsys):
    for wrong in ([], ["--help"]):
        with pytest.raises(SystemExit) as ended:
            run.main([name, *wrong])
        said = capsys.readouterr()
        assert ended.value.code == (0 if wrong else 2)
        assert (said.out if wrong else said.err).startswith(f"usage: bash examples/{name}.sh ")
    assert "#" not in said.out
    assert len(said.out.splitlines()) > 3
    folder, _, function = run.COMMANDS[name].function.partition(":")
    assert f"\ndef {function}(" in (EXAMPLES / f"{folder}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["own_data/run", "only-data"], "usage: "),
        (["own_data/run", "no-such-folder", "out"], "no-such-folder: no such folder"),
        (["own_data/run", "", "out"], "DATA is empty"),
        (
            ["own_data/run", ".", "--max-epoch", "3"],
            "OUT is '--max-epoch', a flag; a folder of this name is ./--max-epoch",
        ),
        (["changing_catalogue/run", "only-data"], "usage: "),
        (["ablations/run", "4", "no-such-folder", "out"], "no-such-folder: no such folder"),
        (["mscoco/evaluate", ".", "--beam"], "usage: "),
        (["msvd/train", "."], "OUT: what prepare.sh made"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run.main(call)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_folders_are_relative_to_the_caller_and_kept_as_they_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("-d", "~", "[a]", "a b", "$(x)", "x\ny", "--d"):
        (tmp_path / text).mkdir()
        assert run.parse("own_data/run", run.COMMANDS["own_data/run"], [text, "../o", "--lr", "1"]) == [
            tmp_path / text,
            tmp_path.parent / "o",
            ["--lr", "1"],
        ]


def test_the_shell_finds_the_program_from_anywhere_and_a_wrong_call_loads_nothing(tmp_path):
    watch = tmp_path / "python"
    watch.write_text(f'#!/bin/sh\nexec {sys.executable} -X importtime "$@"\n')
    watch.chmod(0o755)
    command = ["bash", str(EXAMPLES / "own_data/run.sh"), "no such", "out"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(watch), "CDPATH": "/usr"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert "usage: bash examples/own_data/run.sh DATA OUT" in done.stderr
    loaded = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "cart_fairseq.base.processes" in loaded
    assert not loaded & {"numpy", "torch", "fairseq", "pyarrow", "sklearn"}
