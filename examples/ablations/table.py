"""What ``run.sh`` runs for a table of the paper, and the table that comes of it.

table.py lines TABLE              one run a line: FOLDER|flags of build_identifiers|flags of fairseq-train
table.py print TABLE OUT SUBSET   the table in Markdown, the paper's figures beside
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from paper_tables import TABLES, Line, Table

from cart_fairseq.files import read_json, run_script

METRICS = {"recall_at_1": "R@1", "recall_at_5": "R@5", "recall_at_10": "R@10", "mrr_at_10": "MRR@10"}


def runs(table: Table) -> str:
    """The runs of a table; ``cart`` first, because others take its identifiers."""
    first = next(line for line in table.lines if line.folder == "cart")
    others = [line for line in table.lines if line is not first]
    return "\n".join(f"{line.folder}|{line.identifiers}|{line.train}" for line in [first, *others])


def written(table: Table, out: Path, subset: str) -> str:
    """The table, with the share of distinct codes among the identifiers of each line; "–" where a run is missing."""
    heads = [*table.heads, *METRICS.values(), "distinct codes", f"paper, {table.data}, test"]
    rows = [f"{table.title}: {subset} queries, in percent", "", row(heads), "|" + " --- |" * len(heads)]
    return "\n".join(rows + [row([*line.labels, *found(line, out, subset), paper(line)]) for line in table.lines])


def found(line: Line, out: Path, subset: str) -> list[str]:
    """Cells of what a run measured.

    Raises:
        ValueError: the run measured nothing on this subset.
    """
    path = out / line.folder / "metrics.json"
    if not path.is_file():
        return ["–"] * (len(METRICS) + 1)
    measured = read_json(path)
    if subset not in measured:
        has = ", ".join(measured) or "none"
        raise ValueError(f"{path}: has no {subset} queries, only: {has}; choose another SUBSET")
    report = read_json(out / line.folder / "identifiers" / "report.json")
    figures = [f"{measured[subset][metric]:.1f}" for metric in METRICS]
    return [*figures, f"{100 * report['unique_codes'] / report['items']:.1f} %"]


def paper(line: Line) -> str:
    """The paper's figures in one cell."""
    return " / ".join(f"{figure:.1f}" for figure in line.paper)


def row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the two commands of the module's docstring."""
    command, name, *rest = sys.argv[1:] if argv is None else argv
    if name not in TABLES:
        raise ValueError(f"{name}: no such table of ablations in the paper; use one of {', '.join(TABLES)}")
    if command == "lines":
        print(runs(TABLES[name]))
    else:
        out, subset = rest
        print(written(TABLES[name], Path(out), subset))


if __name__ == "__main__":
    run_script(main)
