"""What pip chooses on every machine."""

import itertools
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]


def requirements() -> list[Requirement]:
    """What setup.py needs at run time."""
    code = "from distutils.core import run_setup; print(*run_setup('setup.py', stop_after='init').install_requires, sep=chr(10))"
    command = [sys.executable, "-c", "import setuptools; " + code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [Requirement(line) for line in done.stdout.splitlines()]


def test_one_fairseq_on_every_machine():
    """Binary wheels where there are any; never both, as both install the module fairseq."""
    fairseqs = [requirement for requirement in requirements() if "fairseq" in requirement.name]
    versions = ["3.10", "3.11", "3.12", "3.13", "3.14"]
    for system, machine, version in itertools.product(["linux", "darwin", "win32"], ["x86_64", "aarch64"], versions):
        environment = {"sys_platform": system, "platform_machine": machine, "python_version": version}
        chosen = [each.name for each in fairseqs if each.marker is None or each.marker.evaluate(environment)]
        binary = (system, machine) == ("linux", "x86_64") and version in ("3.11", "3.12")
        assert chosen == ["ve-fairseq" if binary else "fairseq-fixed"], environment
