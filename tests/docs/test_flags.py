"""The tables of docs/flags.md are the parsers' flags, and the defaults that help texts name are the real ones."""

import re
from dataclasses import asdict
from typing import Any

import flag_tables
import pytest
from documented import ROOT

from cart_fairseq import serve
from cart_fairseq.criterions.cart_rdrop import CARTRDropConfig
from cart_fairseq.models.flags import DEFAULTS
from cart_fairseq.tasks.retrieval_options import CartRetrievalConfig

REAL: dict[str, dict[str, Any]] = {
    "task": asdict(CartRetrievalConfig()),
    "arch": DEFAULTS,
    "loss": asdict(CARTRDropConfig()),
}
"""Name of a table -> default of each flag; None: another value stands in, which the text describes."""


def test_the_tables_are_the_parsers_flags():
    page = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
    assert page == flag_tables.written(page), "run: python tests/docs/flag_tables.py"
    assert page.count("<!-- flags: ") == len(flag_tables.parsers())


def test_another_table_is_noticed():
    page = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
    for changed in (page.replace("| 30 |", "| 31 |"), page.replace("| `--fusion", "| `--no-such-flag")):
        assert changed != page
        assert flag_tables.written(changed) == page


@pytest.mark.parametrize("name", REAL)
def test_the_named_defaults_are_real(name):
    parser = flag_tables.parsers()[name]
    for flag, named, _ in flag_tables.rows(parser):
        default = REAL[name][flag.strip("`").split()[0].lstrip("-").replace("-", "_")]
        if isinstance(default, int | float) and not isinstance(default, bool):
            default = f"{default:g}"
        if default is not None and named != "the encoder's":
            assert named.split(",")[0] == str(default), flag


def test_the_page_about_serving_names_every_flag_with_its_default():
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`--.*?) \|", page, re.M)
    named = dict(re.findall(r"`(--[\w-]+)(?: (\S+))?`", " ".join(rows)))
    flags = [action for action in serve.parser()._actions if action.option_strings[0].startswith("--")]
    expected = {action.option_strings[0]: action.default for action in flags if not action.required}
    assert named == {name: "" if default is None else str(default) for name, default in expected.items()}
