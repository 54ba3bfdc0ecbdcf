"""`python -m cart_fairseq` and `python -m preprocess` name every command."""

from pathlib import Path

import pytest

import cart_fairseq.__main__ as plugin
import preprocess.__main__ as steps

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("module", [plugin, steps])
def test_every_door_is_listed_with_a_line(module, capsys):
    package = REPOSITORY / module.__name__.split(".")[0]
    doors = {path.stem for path in package.glob("*.py") if "\ndef main(" in path.read_text() and path.stem[0] != "_"}
    doors |= {path.parent.name for path in package.glob("*/__main__.py")}
    doors -= {"cart"}  # all of them, in another form (test_cart.py)
    module.main([])
    out = capsys.readouterr().out
    assert {line.split()[2].split(".")[1] for line in out.splitlines() if line.startswith("  python -m ")} == doors
    assert all(len(line) <= 120 for line in out.splitlines())


def test_the_user_dir_is_the_plugin(capsys):
    plugin.main(["user-dir"])
    assert Path(capsys.readouterr().out.strip()) == REPOSITORY / "cart_fairseq"


def test_the_python_functions_are_named(capsys):
    steps.main([])
    assert "preprocess.api" in capsys.readouterr().out
