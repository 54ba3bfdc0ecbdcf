"""fairseq knows the plugin in a script that imports both, in either order; see `cart_fairseq.registration`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAIN = (
    "sys.argv = ['fairseq-train', '/nowhere/at/all', '--user-dir', 'cart_fairseq', '--task', 'cart_retrieval', "
    "'--arch', 'cart', '--criterion', 'cart_rdrop', '--batch-size', '2']; cli_main()"
)
CART, FAIRSEQ = "import cart_fairseq", "from fairseq_cli.train import cli_main"


def python(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run lines in a Python of their own."""
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("imports", [(CART, FAIRSEQ), (FAIRSEQ, CART)], ids=["cart first", "fairseq first"])
def test_fairseq_knows_the_plugin(imports: tuple[str, str]):
    ended = python("import sys", *imports, TRAIN)
    assert "/nowhere/at/all: no manifest.json" in ended.stderr  # it knows every flag, and looks for the data


def test_importing_the_plugin_imports_neither_fairseq_nor_torch():
    ended = python(CART, "import sys", "print({'fairseq', 'torch'} & set(sys.modules))")
    assert ended.stdout == "set()\n", ended.stderr


@pytest.mark.parametrize("module", ["models.cart", "criterions.cart_rdrop"])
def test_every_module_that_imports_fairseq_can_be_the_first(module: str):
    ended = python(f"import cart_fairseq.{module}", "from cart_fairseq import CartRetriever", "print('imported')")
    assert ended.stdout == "imported\n", ended.stderr
