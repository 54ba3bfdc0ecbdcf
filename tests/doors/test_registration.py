"""fairseq knows the plugin in a script that imports both, in either order; see `cart_fairseq.registration`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "['fairseq-train', '/nowhere/at/all', '--user-dir', USER_DIR, '--task', 'cart_retrieval', '--arch', 'cart', '--optimizer', 'adam', "
    "'--criterion', 'cart_rdrop', '--batch-size', '2', '--cpu', '--no-save']"
)
TRAIN = f"sys.argv = {FLAGS}; cli_main()"
KNOWN = "/nowhere/at/all: no manifest.json"
"""The error of a training that knows every flag and looks for its data."""
CART, FAIRSEQ = "import cart_fairseq", "from fairseq_cli.train import cli_main"


def python(*lines: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run lines in a Python of their own."""
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    "imports",
    [
        (CART, FAIRSEQ),
        (FAIRSEQ, CART),
        (CART, "import importlib.util; assert importlib.util.find_spec('fairseq')", FAIRSEQ),
        ("import cart_fairseq.tasks.cart_retrieval", FAIRSEQ),
        ("import fairseq_cli", CART, FAIRSEQ),
        ("from cart_fairseq import CartRetriever, Hit", FAIRSEQ),
    ],
    ids=lambda imports: " | ".join(imports),
)
def test_fairseq_knows_the_plugin(imports: tuple[str, ...]):
    ended = python("import sys", *imports, "USER_DIR = 'cart_fairseq'", TRAIN)
    assert KNOWN in ended.stderr


def test_the_printed_folder_is_known_in_a_checkout_behind_a_link(tmp_path: Path):
    (tmp_path / "link").symlink_to(ROOT)
    path = {"PYTHONPATH": str(tmp_path / "link"), "cwd": tmp_path}
    user_dir = "from cart_fairseq.__main__ import main; main(['user-dir'])"
    printed = python(user_dir, **path).stdout.strip()  # type: ignore[arg-type]
    ended = python("import sys", CART, FAIRSEQ, f"USER_DIR = {printed!r}", TRAIN, **path)  # type: ignore[arg-type]
    assert KNOWN in ended.stderr


def test_processes_that_fairseq_spawns_know_the_plugin(tmp_path: Path):
    """A spawned process imports the script again, under another name."""
    script = tmp_path / "train.py"
    lines = [
        "import sys",
        CART,
        FAIRSEQ,
        "import torch.multiprocessing",
        f"USER_DIR = {str(ROOT / 'cart_fairseq')!r}",
        "def work(rank):",
        f"    {TRAIN}",
        "if __name__ == '__main__':",
        "    torch.multiprocessing.spawn(work, nprocs=2)",
    ]
    script.write_text("\n".join(lines))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert KNOWN in ended.stderr


def test_importing_the_plugin_imports_neither_fairseq_nor_torch():
    ended = python(CART, "import sys", "print({'fairseq', 'torch'} & set(sys.modules))")
    assert ended.stdout == "set()\n", ended.stderr


def test_after_the_registration_imports_are_as_before():
    ended = python("import sys", "before = [*sys.meta_path]", CART, "import fairseq", "print(sys.meta_path == before)")
    assert ended.stdout == "True\n", ended.stderr


@pytest.mark.parametrize("module", ["models.cart", "criterions.cart_rdrop"])
def test_every_module_that_imports_fairseq_can_be_the_first(module: str):
    ended = python("import sys", f"import cart_fairseq.{module}", FAIRSEQ, "USER_DIR = 'cart_fairseq'", TRAIN)
    assert KNOWN in ended.stderr


@pytest.mark.parametrize("module", ["models.flags"])
def test_a_module_of_ours_registers_the_plugin_when_it_is_imported(module: str):
    """Without any of fairseq's commands."""
    asked = "from fairseq.tasks import TASK_REGISTRY; print('cart_retrieval' in TASK_REGISTRY)"
    ended = python(f"import cart_fairseq.{module}", asked)
    assert ended.stdout == "True\n", ended.stderr


@pytest.mark.parametrize(
    "again",
    [
        "import importlib; importlib.reload(cart_fairseq); importlib.reload(cart_fairseq)",
        "import sys; [sys.modules.pop(n) for n in [*sys.modules] if n.startswith('cart_fairseq')]; import cart_fairseq",
    ],
)
def test_the_plugin_may_be_imported_again_before_fairseq(again: str):
    asked = "from fairseq.tasks import TASK_REGISTRY; print('cart_retrieval' in TASK_REGISTRY)"
    ended = python(CART, again, "import fairseq", asked)
    assert ended.stdout == "True\n", ended.stderr


def test_the_plugin_can_be_imported_where_fairseq_is_blocked():
    ended = python("import sys; sys.modules['fairseq'] = None", CART, "print('imported')")
    assert ended.stdout == "imported\n", ended.stderr
