"""The command `cart` has a sub-command for every `python -m` command, which is the same program under its name."""

import contextlib
import importlib
import io
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import ENVIRONMENT
from test_preprocess_doors import HEAVY

from preprocess import cart, update_identifiers

REPOSITORY = Path(__file__).resolve().parents[2]
HELP = f"""
import contextlib, io, sys
from preprocess import cart
for words in [[], *([name] for name in (*cart.MODULES, "user-dir"))]:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        cart.main([*words, "--help"])
    assert printed.getvalue().startswith(" ".join(["usage: cart", *words, "["])), printed.getvalue()
    print(*words, *(heavy for heavy in {HEAVY} if heavy in sys.modules))
"""


def run(*words: str, status: int, **variables: str) -> tuple[str, str]:
    """Run `cart` in a process of its own; returns standard output and standard error."""
    command = [sys.executable, "-m", "preprocess.cart", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT | variables, timeout=60)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_every_command_of_python_has_its_sub_command():
    """Every module with a command line, wherever it is, except `cart` itself."""
    runs = re.compile(r'^def parser\(.*^if __name__ == "__main__":', re.M | re.S)
    modules = set()
    for package in ("cart_fairseq", "preprocess"):
        for path in (REPOSITORY / package).rglob("*.py"):
            if runs.search(path.read_text(encoding="utf-8")):
                modules.add(".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__main__"))
    assert sorted(cart.MODULES.values()) == sorted(modules - {"preprocess.cart"})
    assert {name: module.split(".")[1].replace("_", "-") for name, module in cart.MODULES.items()} == {
        name: name for name in cart.MODULES
    }


def test_help_names_what_was_typed_and_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*cart.MODULES, "user-dir"]  # a heavy module would follow the name


def helped(module: str, *words: str) -> str:
    """What `main` of a module prints as help, on one line, because the program's name moves its breaks."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
        importlib.import_module(module).main([*words, "--help"])
    return " ".join(printed.getvalue().split())


@pytest.mark.parametrize("name", cart.MODULES)
def test_a_sub_command_has_the_help_of_its_module(name):
    module = cart.MODULES[name]
    spec = find_spec(module)
    assert spec is not None
    of_module = helped(f"{module}.__main__" if spec.submodule_search_locations else module)
    assert helped("preprocess.cart", name) == of_module.replace(f"python -m {module}", f"cart {name}")


def test_the_list_has_a_line_for_each():
    out, _ = run(status=0)
    assert run("--help", status=0)[0] == out
    for name in (*cart.MODULES, "user-dir"):
        assert re.search(rf"^  {name} +\w.*$", out, re.M), name
    assert all(len(line) <= 120 for line in out.splitlines())


def test_the_list_is_printed_where_only_ascii_can_be():
    assert "update-identifiers" in run("--help", status=0, PYTHONIOENCODING="ascii")[0]


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("srve", "did you mean serve? cart --help lists all"),
        ("Serve", "did you mean serve? cart --help lists all"),
        ("build_identifiers", "did you mean build-identifiers? cart --help lists all"),
        ("cart_fairseq.serve", "did you mean serve? cart --help lists all"),
        ("Preprocess.Binarise", "did you mean binarize? cart --help lists all"),
        ("inspect", "did you mean inspect-identifiers? cart --help lists all"),
        ("", "cart --help lists all"),
        ("zzz", "cart --help lists all"),
        ("train", 'type fairseq-train, with --user-dir "$(cart user-dir)"'),
    ],
)
def test_an_unknown_command_ends_in_one_line_with_the_nearest(typed, advice):
    assert run(typed, status=2) == ("", f"error: {typed!r} is no command of cart; {advice}\n")


def test_errors_name_what_was_typed():
    assert run("verify", status=2)[1].splitlines()[-1].startswith("cart verify: error: the following arguments")
    assert run("update-identifiers", "add", status=2)[1].startswith("usage: cart update-identifiers add ")
    assert run("user-dir", "x", status=2)[1].endswith("cart user-dir: error: unrecognized arguments: x\n")
    assert run("--port", "1", "serve", status=2)[1].endswith("cart: error: unrecognized arguments: --port\n")


def test_an_error_of_a_sub_command_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cart", "verify", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"^2$"):
        cart.run()
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/nowhere: ")
    assert error.count("\n") == 1


def test_a_sub_command_gets_its_words_as_they_are(monkeypatch):
    """Ids that look like flags of `cart`, and what follows ``--``."""
    got: list[list[str]] = []
    monkeypatch.setattr(update_identifiers, "main", got.append)
    words = ["remove", "--data-bin", "d", "--item-ids", "--version", "--", "--help"]
    cart.main(["update-identifiers", *words])
    assert got == [words]


def test_user_dir_and_version(capsys):
    assert run("user-dir", status=0) == (f"{REPOSITORY / 'cart_fairseq'}\n", "")
    with pytest.raises(SystemExit, match=r"^0$"):
        cart.main(["--version"])
    assert re.fullmatch(r"cart-fairseq \d+\.\d+\.\d+\n", capsys.readouterr().out)
