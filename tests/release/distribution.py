"""Builds wheel and sdist from a copy of the repository, and checks them."""

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHES = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}


def sources() -> list[str]:
    """The files of the repository by their paths in it, sorted; of an unpacked sdist, which has no git, all."""
    if (REPOSITORY / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
        names = [name for name in listed.stdout.split("\0") if name]
    else:
        paths = (path.relative_to(REPOSITORY) for path in REPOSITORY.rglob("*"))
        made = {"PKG-INFO", "setup.cfg", *(path.name for path in REPOSITORY.glob("*.egg-info"))}
        names = [str(path) for path in paths if path.parts[0] not in made and not CACHES & {*path.parts}]
    return sorted(name for name in names if (REPOSITORY / name).is_file())


def build(output: Path, work: Path, isolated: bool) -> tuple[Path, Path]:
    """Build an sdist of the repository's files, and a wheel from this sdist.

    Args:
        output: receives both files.
        work: an empty folder for the copy.
        isolated: in an environment that receives setuptools from the package index; else in this one.

    Returns:
        The sdist and the wheel.
    """
    copy = work / "source"
    for name in sources():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, copy / name)
    flags = [] if isolated else ["--no-isolation", "--skip-dependency-check"]
    tool("build", "--outdir", output, *flags, copy)
    [sdist], [wheel] = output.glob("*.tar.gz"), output.glob("*.whl")
    return sdist, wheel


def check(sdist: Path, wheel: Path) -> None:
    """Check the metadata of both, and that the wheel has neither too much nor too little."""
    tool("twine", "check", "--strict", sdist, wheel)
    tool("check_wheel_contents", "--config", REPOSITORY / "pyproject.toml", wheel)


def tool(module: str, *arguments: object) -> str:
    """Run a tool of this environment.

    Returns:
        What it printed.

    Raises:
        RuntimeError: it failed; the message has what it printed.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{module} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
