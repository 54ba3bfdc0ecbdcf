"""Tables 1 to 3 with one line a system: what ran, with which weights, and the paper's figures beside ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from obtainable import NOT_CARRIED, RIVALS, RUNS, Rival
from published import FIGURES, TITLES, Published

from cart_fairseq.base.reading import read_json
from cart_fairseq.measuring.labels import METRIC_LABELS

HEAD = ("System", "weights", *METRIC_LABELS.values(), *(f"paper {label}" for label in METRIC_LABELS.values()))
TRAIN = "no run of it in --runs"
NOT_IN_PAPER = "not in the paper"


def result_rows(
    dataset: str,
    before: Path,
    measured: Sequence[dict[str, Any]],
    left: Sequence[Rival],
    trained: Sequence[dict[str, Any]],
    on: dict[str, Any],
) -> list[dict[str, Any]]:
    """Join what was measured now with what was measured before, and say why the rest is missing.

    Args:
        dataset: whose figures of the paper are used.
        before: tables.json of an earlier call. Its rows count if they were measured on the same queries and candidates.
        measured: rows of this call, with `not_run` for those that failed.
        left: rivals that were not asked for.
        trained: rows of runs.
        on: the queries and candidates.
    """
    earlier = read_json(before) if before.is_file() else {}
    known = {row["key"]: row for row in earlier.get("rows", []) if row.get("key") and "not_run" not in row}
    known = known if (earlier.get("measured_on"), earlier.get("dataset")) == (on, dataset) else {}
    rows = []
    for row in measured:
        old = known.get(row["key"], {})
        same = "not_run" in row and old.get("weights") == row["weights"]
        rows.append(old if same else row)
    for rival in left:
        old = known.get(rival.key, {})
        missing = {"key": rival.key, "system": rival.name, "weights": rival.weights, "not_run": "not in --only"}
        rows.append(old if old.get("weights") == rival.weights else missing)
    return rows + [row | {"key": "", "weights": Path(row["run"]).name} for row in trained]


def tables(result: dict[str, Any]) -> str:
    """Return the tables for which the paper has figures of the data set, and those with a measured system."""
    dataset, found = result["dataset"], []
    single = {rival.key for rival in RIVALS if rival.single}
    names = {rival.key: rival.published for rival in RIVALS}
    for number, title in TITLES.items():
        theirs = {each.method: each for each in FIGURES[number].get(dataset, [])}
        lines: list[str] = []
        shown: set[str] = set()
        for row in result["rows"]:
            if row["key"]:
                ours, method = number == (1 if row["key"] in single else 2), names[row["key"]]
            else:
                ours, method = number in row["tables"], RUNS.get(row["scheme"], {}).get(number, "")
            if ours:
                lines.append(own_line(row, theirs.get(method)))
                shown.add(method)
        for method, each in theirs.items():
            if method not in shown:
                lines.append(own_line({"system": method, "weights": "–", "not_run": reason(method)}, each))
        if lines and (theirs or any("not_run" not in row for row in result["rows"])):
            marks = "| --- | --- |" + " ---: |" * (len(HEAD) - 2)
            found.append("\n".join([f"### {title}", "", f"| {' | '.join(HEAD)} |", marks, *lines]))
    on = result["measured_on"]
    which = "of the split" if on["candidates"] == "split" else "all items"
    notes = [
        f"in percent; {on['split']} queries; candidates: {which}; dual towers zero-shot",
        f"paper: as printed for {dataset}; it does not name its rivals' weights, so ours may differ",
    ]
    return "\n\n".join([*found, "\n".join(f"- {note}" for note in notes)])


def reason(method: str) -> str:
    """Return why a system of the paper is not measured."""
    return NOT_CARRIED.get(method, TRAIN)


def own_line(row: dict[str, Any], theirs: Published | None) -> str:
    """Return one line: our figures or why there are none, and the paper's."""
    paper = [NOT_IN_PAPER, "", "", ""]
    if theirs is not None:
        paper = ["–" if value is None else str(value) for value in theirs[1:5]]
    own = [f"{row[metric]:.1f}" for metric in METRIC_LABELS] if "not_run" not in row else ["–"] * 4
    system = row["system"] if "not_run" not in row else f"{row['system']} – not run: {row['not_run']}"
    return f"| {' | '.join([system.replace('|', '/'), row['weights'], *own, *paper])} |"
