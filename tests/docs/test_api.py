"""What the API page shows: each public name, each parameter and field on a line of its own, and text that is no markup."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from documented import ROOT

import cart_fairseq
from preprocess import api

CLASSES = [cart_fairseq.Hit, *(value for value in vars(api).values() if dataclasses.is_dataclass(value))]
FUNCTIONS = [
    *(value for value in vars(api).values() if inspect.isfunction(value)),
    cart_fairseq.CartRetriever,
    *(value for name, value in inspect.getmembers(cart_fairseq.CartRetriever) if not name.startswith("_")),
]
PAGE = ROOT / "docs" / "api.md"


def listed(docstring: str | None, section: str) -> list[str]:
    """The names of a docstring's section, in order."""
    found = re.search(rf"^{section}:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(docstring or ""), re.M | re.S)
    return re.findall(r"^    (\S.*?):", found[1], re.M) if found else []


def named(items: list[Any]) -> Any:
    return pytest.mark.parametrize("item", items, ids=lambda item: item.__name__)


@named(CLASSES)
def test_each_field_has_a_line(item):
    documented = [name for base in reversed(item.__mro__) for name in listed(vars(base).get("__doc__"), "Attributes")]
    assert sorted(documented) == sorted(field.name for field in dataclasses.fields(item))


@named(FUNCTIONS)
def test_each_parameter_has_a_line(item):
    assert listed(item.__doc__, "Args") == [name for name in inspect.signature(item).parameters if name != "self"]


def docstrings() -> Iterator[str]:
    """All text of the page."""
    for item in [*CLASSES, *FUNCTIONS]:
        yield inspect.getdoc(item) or ""


def test_there_are_no_roles_of_sphinx():
    assert [role for text in docstrings() for role in re.findall(r":\w+:`.*?`", text)] == []


def test_each_public_name_is_on_the_page():
    shown = re.findall(r"^::: (\S+)$", PAGE.read_text(encoding="utf-8"), re.M)
    expected = {f"preprocess.api.{name}" for name in api.__all__}
    expected |= {f"cart_fairseq.{name}" for name in ("CartRetriever", "Hit")}
    assert expected <= {*shown}
