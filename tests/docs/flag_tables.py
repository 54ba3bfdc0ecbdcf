"""The tables of docs/flags.md, made from the parsers: `python tests/docs/flag_tables.py` writes them into the page."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from fairseq.dataclass.utils import gen_parser_from_dataclass

from cart_fairseq.criterions.cart_rdrop import CARTRDropConfig
from cart_fairseq.models.flags import add_flags
from cart_fairseq.tasks import plugin  # noqa: F401  registers the task's parts in the order that fairseq needs
from cart_fairseq.tasks.retrieval_options import CartRetrievalConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "flags.md"
TABLE = re.compile(r"(?<=<!-- flags: (\w{4}) -->\n\n)\|.*?(?=\n\n|\n?\Z)", re.S)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Name of a table -> the parser of its flags."""
    made = {name: argparse.ArgumentParser(add_help=False) for name in ("task", "arch", "loss")}
    gen_parser_from_dataclass(made["task"], CartRetrievalConfig())
    add_flags(made["arch"])
    gen_parser_from_dataclass(made["loss"], CARTRDropConfig())
    return made


def rows(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, str]]:
    """Flag with its value, default, and effect, of every flag of a parser."""
    for action in parser._actions:
        if not action.option_strings:  # the data-bin
            continue
        help_text = re.fullmatch(r"(?P<effect>.*?) \(default: (?P<default>.*)\)", action.help or "", re.S)
        if help_text is None:
            raise ValueError(f"{action.option_strings[0]}: its help names no default: {action.help}")
        value = f"{{{','.join(map(str, action.choices))}}}" if action.choices else value_name(action)
        yield f"`{action.option_strings[0]}{value and ' '}{value}`", help_text["default"], help_text["effect"]


def value_name(action: argparse.Action) -> str:
    """What stands for a flag's value; empty for a switch."""
    if action.nargs == 0:
        return ""
    return str(action.metavar or ("N" if action.type is int else "X"))


def table(parser: argparse.ArgumentParser) -> str:
    """A Markdown table of a parser's flags."""
    lines = ["| flag | default | effect |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows(parser))])


def written(page: str) -> str:
    """A page with its tables as the parsers have them."""
    made = parsers()
    return TABLE.sub(lambda found: table(made[found[1]]), page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
