"""Wheel and sdist: what is in them, and the wheel at work outside of the checkout. `make release` does more."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from distribution import build, check, sources
from walk import ITEMS, Installation, walk

from cart_fairseq import __version__
from cart_fairseq.base.reading import read_json


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """sdist and wheel."""
    folder = tmp_path_factory.mktemp("built")
    return build(folder / "dist", folder, isolated=False)


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in a folder of its own; other packages are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", folder / "site", built[1]], check=True)
    (folder / "elsewhere").mkdir()
    scripts = (folder / "site" / "bin", Path(sys.executable).parent)
    return Installation(scripts, folder / "elsewhere", str(folder / "site"))


def test_both_are_well_formed(built):
    check(*built)
    sdist, wheel = built
    assert sdist.name == f"cart_fairseq-{__version__}.tar.gz"
    assert wheel.name == f"cart_fairseq-{__version__}-py3-none-any.whl"


def test_the_wheel_has_the_two_packages_whole(built):
    """Modules, the service's page, and the marks that say that they are typed."""
    with zipfile.ZipFile(built[1]) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry_points = wheel.read(f"cart_fairseq-{__version__}.dist-info/entry_points.txt").decode()
    assert found == {name for name in sources() if name.startswith(("cart_fairseq/", "preprocess/"))}
    assert {"cart_fairseq/py.typed", "preprocess/py.typed", "cart_fairseq/serving/page/index.html"} <= found
    assert re.findall(r"^(\w+) = ", entry_points, re.M) == ["cart"]


def test_the_sdist_has_every_file_of_the_repository(built):
    """So it can be built, tested, and its recipes run."""
    with tarfile.open(built[0]) as sdist:
        found = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    assert sorted(name for name in found if ".egg-info" not in name) == sorted({*sources(), "PKG-INFO", "setup.cfg"})


def test_the_wheel_goes_the_whole_path_outside_of_the_checkout(installed):
    assert installed.run("cart", "--version") == f"cart-fairseq {__version__}\n"
    assert installed.run("cart", "user-dir").strip() == str(Path(installed.path) / "cart_fairseq")
    answer = walk(installed)
    [found] = answer["results"]
    assert len({hit["item_id"] for hit in found["hits"]}) == 5
    assert answer["catalogue"]["items"] == ITEMS
    versions = read_json(installed.folder / "MODEL" / "config.json")["versions"]
    assert versions["cart-fairseq"] == __version__
    assert len({"ve-fairseq", "fairseq-fixed"} & versions.keys()) == 1
