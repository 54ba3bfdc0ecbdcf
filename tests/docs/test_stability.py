"""One version everywhere, the paper's authors in each citation, and public modules that are typed strictly."""

import fnmatch
import importlib
import re
import sys
from typing import Any

import pytest
import yaml
from documented import README, ROOT

import cart_fairseq
from preprocess import api

CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    released = [found for found in re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.M) if found != "Unreleased"]
    assert released[0] == cart_fairseq.__version__
    assert CITATION["version"] == cart_fairseq.__version__
    assert re.findall(r"This is version (\S+)\.\s", read("docs/stability.md")) == [cart_fairseq.__version__]


def test_the_citations_agree():
    """CITATION.cff and the entry for BibTeX in README."""
    paper = CITATION["preferred-citation"]
    [authors] = re.findall(r"author += \{(.+?)\}", README.read_text(encoding="utf-8"), re.S)
    named = " ".join(authors.split()).split(" and ")
    assert [f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]] == named
    [title] = re.findall(r"^  title += \{(.+)\},", README.read_text(encoding="utf-8"), re.M)
    assert paper["title"] == title.replace("{", "").replace("}", "")
    assert CITATION["authors"] == [{"name": "cart-fairseq contributors"}]


def strict_modules() -> list[str]:
    """The modules that mypy checks as with ``--strict``, and that may not return Any."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    overrides = toml.loads(read("pyproject.toml"))["tool"]["mypy"]["overrides"]
    [modules] = [each["module"] for each in overrides if each.get("warn_return_any")]
    return modules


def public() -> dict[str, str]:
    """The public names, and the module that defines each."""
    of_plugin = {name: getattr(cart_fairseq, name).__module__ for name in cart_fairseq.__all__}
    shown = re.findall(r"^::: (\S+)$", read("docs/api.md"), re.M)
    shown = [name for name in shown if name.rpartition(".")[0] not in ("cart_fairseq", "preprocess.api")]
    others = {name: name.rpartition(".")[0] for name in shown}
    return of_plugin | {name: getattr(api, name).__module__ for name in api.__all__} | others


@pytest.mark.parametrize("name", public())
def test_each_public_name_is_in_a_module_that_is_checked_strictly(name):
    module = public()[name]
    assert any(fnmatch.fnmatchcase(module, pattern) for pattern in strict_modules()), module
