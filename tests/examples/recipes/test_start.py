"""What is looked at before any work: OUT, variables, packages, and which Python runs the recipes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_calls import call, run
from recipe_samples import write_data

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file", "file: a file, but OUT is a folder; choose another OUT"),
        ("file/below", "file: a file, but OUT is a folder; choose another OUT"),
        ("dangling", "dangling: a link to 'nowhere', which is not there; choose another OUT"),
        ("dangling/below", "dangling: a link to 'nowhere', which is not there; choose another OUT"),
        ("loop", "loop: a link to 'loop', which is not there; choose another OUT"),
        ("/proc/out", r"/proc/out: cannot be written to \(.*\); choose another OUT"),
        ("/proc", r"/proc: cannot be written to \(.*\); choose another OUT"),
        ("n" * 300, r"n+: cannot be written to \(File name too long\); choose another OUT"),
        ("new/" + "n" * 300, r"n+: cannot be written to \(File name too long\); choose another OUT"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_refused_first(tmp_path, place, said):
    data = write_data(tmp_path / "data")
    (tmp_path / "file").write_text("")
    for name, target in (("dangling", "nowhere"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=said):
        call("own_data/run", data, tmp_path / place)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_first(tmp_path):
    data = write_data(tmp_path / "data")
    (tmp_path / "kept").mkdir(mode=0o555)
    with pytest.raises(ValueError, match=r"out: cannot be written to \(Permission denied\); choose another OUT"):
        call("own_data/run", data, tmp_path / "kept" / "out")


def test_a_folder_behind_a_link_or_with_contents_is_fine(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "kept").write_text("kept")
    (tmp_path / "link").symlink_to("real")
    for place in ("real", "link", "link/new/newer"):
        run.check_out(tmp_path / place)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "link", "real"]


@pytest.mark.parametrize("name", run.COMMANDS)
def test_variables_that_a_recipe_does_not_read_are_refused_or_said(name, capsys):
    command, folder = run.COMMANDS[name], name.partition("/")[0]
    known = {variable for each in run.COMMANDS.values() for variable in each.reads}
    for variable in sorted(known):
        beside = any(variable in run.COMMANDS[other].reads for other in run.COMMANDS if other.startswith(f"{folder}/"))
        run.check_variables(name, command, {variable: ""})
        if variable in command.reads:
            run.check_variables(name, command, {variable: "set"})
        elif beside:
            run.check_variables(name, command, {variable: "set"})
            assert capsys.readouterr().err == f"note: {variable} is set, but examples/{name}.sh does not read it\n"
        else:
            with pytest.raises(ValueError, match=f"^{variable} is set, but examples/{name}.sh does not read it; leave"):
                run.check_variables(name, command, {variable: "set"})
    assert capsys.readouterr() == ("", "")


def test_every_variable_is_read_by_some_recipe_and_only_by_those_that_say_so():
    known = {variable for each in run.COMMANDS.values() for variable in each.reads}
    documented = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.sh"))
    assert [variable for variable in known if variable not in documented + scripts] == []


def python_of(folder: Path, packages: bool) -> Path:
    """An environment's Python, with or without the packages; it says where it lies, and what it is called with."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit {int(not packages)}\necho "{folder.name}" "$@"\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(
    ("activated", "beside", "chosen"),
    [
        (True, True, "activated"),
        (True, None, "activated"),
        (False, True, ".venv"),
        (None, True, ".venv"),
        (None, False, "python3"),
        (False, None, "python3"),
    ],
)
def test_the_activated_environment_runs_the_recipes_if_it_has_the_packages(tmp_path, activated, beside, chosen):
    (tmp_path / "examples" / "demo").mkdir(parents=True)
    for name in ("environment.sh", "demo/run.sh"):
        (tmp_path / "examples" / name).write_bytes((ROOT / "examples" / name).read_bytes())
    path = python_of(tmp_path / "python3", packages=True).parent
    (path / "python").rename(path / "python3")
    environment = {"PATH": f"{path}:/usr/bin:/bin"}
    if activated is not None:
        environment["VIRTUAL_ENV"] = str(python_of(tmp_path / "activated", activated).parents[1])
    if beside is not None:
        python_of(tmp_path / ".venv", beside)
    command = ["bash", str(tmp_path / "examples" / "demo" / "run.sh"), "out"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"{chosen} {tmp_path}/examples/recipes/run.py demo/run out\n"
    passed_over = [name for name, packages in (("activated", activated), (".venv", beside)) if packages is False]
    assert done.stderr == "".join(
        f"note: {tmp_path / name}/bin/python has no torch or no fairseq and is left out\n" for name in passed_over
    )


def test_a_python_that_is_not_there_or_lacks_the_packages_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    command = ["bash", str(ROOT / "examples" / "demo" / "run.sh"), "out"]
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(tmp_path / "no")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"error: PYTHON is '{tmp_path}/no', which is no program; run 'make setup'")
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    environment["PYTHON"] = str(bare)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "has no torch, fairseq, numpy, pyarrow, sklearn; run `make setup`, or set PYTHON" in done.stderr
    assert not (tmp_path / "out").exists()
