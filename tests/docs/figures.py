"""Reads the figures of a Markdown page and compares them with committed records.

A figure is a number with decimals, or a number with a unit of share or time. Every figure outside command blocks must come
from a record or be a constant that `CONSTANTS` lists. A comment above a table, or above a ``text`` block, names the record of
each row; the last cells of the row are the comment's columns::

    <!-- figures of FOLDER: recall_at_1 recall_at_10
    scratch.json > metrics > split > valid
    ablations.json > full
    -->

One line a row: a file of FOLDER, then keys, or positions of lists. Where the path ends at a list of runs, the cell holds the
mean and, of several runs, the standard deviation; the column ``runs`` is their number. In a sentence the record follows its
figure: ``84 minutes<!-- FOLDER/scratch.json > minutes -->``.

A record states settings, seed, commit and machine, itself or in the ``provenance.json`` of its folder.
"""

import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CONSTANTS = {
    "3.10": "Python",
    "3.11": "Python",
    "3.12": "Python",
    "0.12": "fairseq",
    "0.15": "omega, paper, appendix C",
    "0.1": "dropout, a default",
    "0.25": "beta of Eq. 1, a default",
}
"""Numbers that are settings or versions, not results."""
FACTS = ("command", "settings", "seed", "commit", "machine")
SYNONYMS = {"train_flags": "settings"}

_UNITS = r"%|percent\b|points?\b|(?:milli)?seconds?\b|minutes?\b|hours?\b|days?\b|ms\b|[kMG]i?B\b|bytes\b|queries/s|times\b|×"
_WORDS = "one|two|three|four|five|six|seven|eight|nine|ten|fifteen|twenty|thirty"
FIGURE = re.compile(
    rf"(?<![\w.,@/§-])(?:\d[\d,]*\.\d+(?!\w|\.\d)|\d[\d,]*(?:\.\d+)?\s?(?:{_UNITS})|(?:{_WORDS})\s(?:{_UNITS}))", re.I
)
_MAPPING = re.compile(r"<!-- figures of (?P<folder>\S+): (?P<columns>[^\n]*)\n(?P<paths>.*?)\n-->\Z", re.S)
_IN_SENTENCE = re.compile(
    r"(?P<figure>-?\d[\d,]*(?:\.\d+)?)(?P<unit>[^<\d]*)<!-- (?P<path>\S+\.json(?: > [^>]+?)+) -->"
)
_CODE = re.compile(r"`(?P<code>[^`]*)`")
_BARE = re.compile(r"[\d.,\s%]+\Z")


class FigureError(Exception):
    """A figure without a whole record, or unlike it."""


@dataclass
class Mapping:
    """The comment above a table: the columns, and the path of each row."""

    columns: list[str]
    paths: list[str]

    @classmethod
    def parse(cls, comment: str) -> "Mapping":
        found = _MAPPING.match(comment)
        if not found:
            raise FigureError(f"not a comment of figures: {comment.splitlines()[0]}")
        folder = found["folder"].rstrip("/")
        return cls(found["columns"].split(), [f"{folder}/{line.strip()}" for line in found["paths"].splitlines()])


def problems(text: str, root: Path) -> list[str]:
    """What is wrong with the figures of a page; empty where each is its record's.

    Args:
        text: the page, Markdown.
        root: the repository; records are relative to it.
    """
    found: list[str] = []
    pending = None
    for kind, lines in blocks(text):
        try:
            if kind == "mapping":
                pending = Mapping.parse("\n".join(lines))
            elif kind in ("table", "text"):
                found += rows_problems(kind, lines, pending, root)
                pending = None
            elif kind == "prose":
                found += prose_problems(" ".join(lines), root)
        except FigureError as error:
            found.append(str(error))
    if pending is not None:
        found.append(f"no table follows the figures of {pending.paths[0]}")
    return found


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Split a page into prose (a paragraph each), tables, mappings, ``text`` blocks and code, with their lines."""
    paragraph: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        kind = "prose"
        if line.lstrip().startswith("```"):
            kind, end = line.strip(" `").split(" ")[0] or "text", "```"
        elif line.startswith("<!-- figures"):
            kind, end = "mapping", "-->"
        elif line.startswith("|"):
            kind = "table"
        if kind in ("prose", "table"):
            if paragraph and (not line.strip() or paragraph[0].startswith("|") != (kind == "table")):
                yield "table" if paragraph[0].startswith("|") else "prose", paragraph
                paragraph = []
            paragraph += [line] if line.strip() else []
            continue
        if paragraph:
            yield "table" if paragraph[0].startswith("|") else "prose", paragraph
            paragraph = []
        inside = [line] if kind == "mapping" else []
        for following in lines:
            if following.strip() == end:
                break
            inside.append(following)
        yield kind, [*inside, end] if kind == "mapping" else inside
    if paragraph:
        yield "table" if paragraph[0].startswith("|") else "prose", paragraph


def rows_problems(kind: str, lines: list[str], mapping: Mapping | None, root: Path) -> Iterator[str]:
    """Compare a table's rows, or the lines of output that hold figures, with what the mapping names."""
    rows = lines[2:] if kind == "table" else [line for line in lines if mapping is None or FIGURE.search(line)]
    if mapping is None:
        for row in rows:
            yield from prose_problems(row, root)
        return
    if len(rows) != len(mapping.paths):
        yield f"{len(rows)} rows, but {len(mapping.paths)} records: {rows[0]}"
        return
    for row, path in zip(rows, mapping.paths, strict=True):
        cells = [cell.strip(" *") for cell in (row.strip("| ").split("|") if kind == "table" else row.split())]
        first = len(cells) - len(mapping.columns)
        yield from prose_problems(" ".join(cells[:first]), root)
        for printed, column in zip(cells[first:], mapping.columns, strict=True):
            try:
                expected = formatted(recorded(root, path, column), printed)
            except FigureError as error:
                yield str(error)
                continue
            if printed.rstrip(" %") != expected:
                yield f"{printed} is printed, {expected} recorded: {path} > {column}: {row}"


def prose_problems(text: str, root: Path) -> Iterator[str]:
    """Compare figures of a sentence with the records that follow them; any other must be a constant."""
    for found in _IN_SENTENCE.finditer(text):
        *path, column = found["path"].split(" > ")
        expected = formatted(recorded(root, " > ".join(path), column), found["figure"])
        if found["figure"] != expected:
            yield f"{found['figure']} is printed, {expected} recorded: {found['path']}"
    rest = re.sub(r"<!--.*?-->", " ", _IN_SENTENCE.sub(" ", text))
    rest = re.sub(r"\]\([^)]*\)", "]", rest)  # addresses of links
    # code is no figure, unless it is nothing but one
    rest = _CODE.sub(lambda code: code["code"] if _BARE.match(code["code"]) else " ", rest)
    for figure in FIGURE.finditer(rest):
        if figure.group() not in CONSTANTS:
            yield f"no record for {figure.group()}: {text.strip()}"


def recorded(root: Path, path: str, column: str) -> Any:
    """The value at ``FILE > KEY > … `` and ``column``; a list of values where the path ends at a list of runs.

    Raises:
        FigureError: file or key are missing, or the record does not say what it was made with.
    """
    name, *keys = path.split(" > ")
    file = root / name
    if not file.is_file():
        raise FigureError(f"{name}: no such record")
    node = parsed(file.read_text(encoding="utf-8"))
    beside = file.with_name("provenance.json")
    known = set(parsed(beside.read_text(encoding="utf-8")).get(file.name, {})) if beside.is_file() else set()
    known |= facts(node)
    for key in keys:
        node = step(node, key, path)
        known |= facts(node)
    missing = [fact for fact in FACTS if fact not in known]
    if missing:
        raise FigureError(f"{path}: the record lacks {', '.join(missing)}")
    if isinstance(node, list):
        return len(node) if column == "runs" else [leaf(run, column, path) for run in node]
    return 1 if column == "runs" else leaf(node, column, path)


@cache
def parsed(text: str) -> Any:
    """A record's JSON; kept, because a record is asked for every figure."""
    return json.loads(text)


def facts(node: Any) -> set[str]:
    """Which of command, settings, seed, commit and machine a record, or every run of a list, states."""
    if isinstance(node, list):
        return set.intersection(*map(facts, node)) if node else set()
    given = {name for name, value in node.items() if value is not None} if isinstance(node, dict) else set()
    return {SYNONYMS.get(name, name) for name in given}


def leaf(node: Any, column: str, path: str) -> float:
    """Follow the dots of a column's name to a number."""
    for key in column.split("."):
        node = step(node, key, path)
    if not isinstance(node, int | float):
        raise FigureError(f"{path}: {column} is no number")
    return node


def step(node: Any, key: str, path: str) -> Any:
    """One key of a record, or one position of a list.

    Raises:
        FigureError: there is none.
    """
    try:
        return node[int(key)] if isinstance(node, list) else node[key]
    except (KeyError, IndexError, TypeError, ValueError):
        raise FigureError(f"{path}: nothing recorded at {key}") from None


def formatted(value: Any, printed: str) -> str:
    """A recorded value with as many decimals as the printed one has."""
    decimals = re.search(r"\.(\d+)", printed)
    form = f",.{len(decimals[1]) if decimals else 0}f"
    if not isinstance(value, list):
        return format(value, form)
    spread = f" ± {statistics.stdev(value):{form}}" if len(value) > 1 else ""
    return format(statistics.fmean(value), form) + spread
