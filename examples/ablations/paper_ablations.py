"""The runs of a table of the paper, and the table that comes of them."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from folders import copy_parts
from paper_tables import TABLES, Line, Table
from plan import MEASURED
from settings import Settings, from_environment
from steps import Run, check_run, train_and_evaluate

from cart_fairseq.base.reading import read_json
from cart_fairseq.measuring.labels import METRIC_LABELS

SIZES = ("--kmeans-clusters", "128", "--codebook-size", "128")  # whatever few items would get: some tables name them


def run(name: str, data: Path, out: Path, flags: Sequence[str]) -> None:
    """Run the lines of a table and print it.

    Raises:
        ValueError: the paper has no such table, SUBSET is no subset that is measured, or flags are wrong.
    """
    subset = os.environ.get("SUBSET") or "valid"
    if subset not in MEASURED:
        raise ValueError(f"SUBSET is {subset!r}; use one of {', '.join(MEASURED)}, or leave it out")
    if name not in TABLES:
        raise ValueError(f"{name}: no such table of ablations in the paper; use one of {', '.join(TABLES)}")
    settings = from_environment()
    planned = {
        line: Run(data, out / line.folder, [*flags, *line.train], settings_of(line, settings))
        for line in runs(TABLES[name])
    }
    for each in planned.values():
        check_run(*each)
    for line, each in planned.items():
        print(f"\n==== {line.folder}")
        if shares_identifiers(line) and not (out / line.folder / "data-bin").is_dir():
            copy_parts(out / "cart", ("identifiers", "data-bin"), out / line.folder)
        train_and_evaluate(*each)
    print("\n" + written(TABLES[name], out, subset))


def runs(table: Table) -> list[Line]:
    """The runs of a table; ``cart`` first, because others take its identifiers."""
    return sorted(table.lines, key=lambda line: line.folder != "cart")


def shares_identifiers(line: Line) -> bool:
    """Whether a line has identifiers and data of the full model."""
    return not line.identifiers and line.folder != "cart"


def settings_of(line: Line, settings: Settings) -> Settings:
    """The user's settings for one line, whose flags come last."""
    return dataclasses.replace(settings, identifier_flags=(*SIZES, *settings.identifier_flags, *line.identifiers))


def written(table: Table, out: Path, subset: str) -> str:
    """The table, with the share of distinct codes among the identifiers of each line; "–" where a run is missing."""
    heads = [*table.heads, *METRIC_LABELS.values(), "distinct codes", f"paper, {table.data}, test"]
    rows = [f"{table.title}: {subset} queries, in percent", "", row(heads), "|" + " --- |" * len(heads)]
    return "\n".join(rows + [row([*line.labels, *found(line, out, subset), paper(line)]) for line in table.lines])


def found(line: Line, out: Path, subset: str) -> list[str]:
    """Cells of what the run measured.

    Raises:
        ValueError: the run measured nothing on this subset.
    """
    path = out / line.folder / "metrics.json"
    if not path.is_file():
        return ["–"] * (len(METRIC_LABELS) + 1)
    measured = read_json(path)
    if subset not in measured:
        has = ", ".join(measured) or "none"
        raise ValueError(f"{path}: has no {subset} queries, only: {has}; choose another SUBSET")
    report = read_json(out / line.folder / "identifiers" / "report.json")
    figures = [f"{measured[subset][metric]:.1f}" for metric in METRIC_LABELS]
    return [*figures, f"{100 * report['unique_codes'] / report['items']:.1f} %"]


def paper(line: Line) -> str:
    """The paper's figures in one cell."""
    return " / ".join(f"{figure:.1f}" for figure in line.paper)


def row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
