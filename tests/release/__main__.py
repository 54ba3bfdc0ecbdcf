"""Make a release: build wheel and sdist, check them, install the wheel elsewhere, and go the whole path with it.

    make release

Nothing is uploaded. The packages of the new environment come from the package index.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from distribution import REPOSITORY, build, check
from walk import Installation, walk

CONSUMER = """from cart_fairseq import CartRetriever, Hit
from preprocess.api import Updated, remove

def first(retriever: CartRetriever) -> Hit:
    return retriever.search(["a dog"], k=1)[0][0]

def forget(data_bin: str) -> Updated:
    return remove(data_bin, ["a.jpg"])
"""
WRONG = "from cart_fairseq import CartRetriever\nCartRetriever.from_pretrained(1)\n"


def main() -> None:
    """Run the steps; an error ends the program."""
    parser = argparse.ArgumentParser(prog="tests/release", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", help="folder of both files (%(default)s)")
    parser.add_argument("--torch", default="torch", metavar="REQUIREMENT", help="torch to install (%(default)s)")
    args = parser.parse_args()
    args.output.mkdir(exist_ok=True)
    for old in [*args.output.glob("*.whl"), *args.output.glob("*.tar.gz")]:
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        say("1/4: building")
        sdist, wheel = build(args.output, work, isolated=True)
        say("2/4: twine check, check-wheel-contents")
        check(sdist, wheel)
        say("3/4: installing the wheel in a new environment")
        python = install(work / "venv", wheel, args.torch)
        say("4/4: the commands, from data to an answer of the service; types")
        (work / "elsewhere").mkdir()
        installed = Installation((python.parent,), work / "elsewhere")
        print(installed.run("cart", "--version"), installed.run("cart", "--help"), sep="")
        for hit in walk(installed)["results"][0]["hits"]:
            print(hit)
        check_types(python, work / "elsewhere")
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=REPOSITORY, capture_output=True, text=True).stdout
    if changed:
        say(f"these files differ from the commit:\n{changed}")
    say(f"{sdist} and {wheel} are ready; nothing was uploaded")


def say(text: str) -> None:
    """Print what is done."""
    print(f"release {text}" if text[0].isdigit() else f"release: {text}", flush=True)


def install(folder: Path, wheel: Path, torch: str) -> Path:
    """Make an environment with the wheel and the service.

    Returns:
        Its Python.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, torch, f"{wheel}[serve]", "mypy"], check=True)
    return python


def check_types(python: Path, folder: Path) -> None:
    """Check that mypy finds the types of the installed packages, and an error in their use.

    Raises:
        RuntimeError: it does not.
    """
    (folder / "consumer.py").write_text(CONSUMER, encoding="utf-8")
    (folder / "wrong.py").write_text(WRONG, encoding="utf-8")
    installed = Installation((python.parent,), folder)
    installed.run("mypy", "--strict", "consumer.py")
    if "[arg-type]" not in installed.run("mypy", "--strict", "wrong.py", status=1):
        raise RuntimeError("mypy does not see the types of cart_fairseq")


if __name__ == "__main__":
    main()
