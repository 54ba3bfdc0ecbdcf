"""The comparison as Markdown, with the columns of the paper's Tables 1 to 3. The paper's figures come last."""

from collections.abc import Sequence
from typing import Any

from published import FIGURES, TITLES, Published
from systems import WHOLE

from cart_fairseq.measuring.labels import METRIC_LABELS

HEAD = ("System", "candidates", *METRIC_LABELS.values(), "queries/s")


def tables(result: dict[str, Any]) -> str:
    """Return the tables that have a measured rival or figures of the paper, followed by the notes."""
    parts = []
    for number, title in TITLES.items():
        ours = [row for row in result["rows"] if number in row["tables"]]
        theirs = FIGURES[number].get(result["dataset"] or "", [])
        if theirs or any(row["tables"] == [number] for row in ours):
            parts.append(table(title, ours, theirs, result))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes(result))])


def table(title: str, ours: Sequence[dict[str, Any]], theirs: Sequence[Published], result: dict[str, Any]) -> str:
    """Return one table. Rows measured here name their candidates."""
    asked = f"{ours[0]['queries']:,} {result['split']} queries" if ours else "nothing measured here"
    lines = [f"### {title}: {asked}", "", "| " + " | ".join(HEAD) + " |", "| --- | --- |" + " ---: |" * 5]
    for row in ours:
        competing = f"{row['candidates']:,} ({'of the split' if row['competing'] == 'split' else 'all items'})"
        figures = [f"{row[metric]:.1f}" for metric in METRIC_LABELS]
        lines.append(f"| {' | '.join([row['system'], competing, *figures, speed(row)])} |")
    for each in theirs:
        figures = [percent(value) for value in each[1:5]]
        lines.append(f"| {' | '.join([f'*paper:* {each.method}', '', *figures, percent(each.queries_per_second)])} |")
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """Return a figure of the paper as printed there, or a dash if there is none."""
    return "–" if value is None else str(value)


def speed(row: dict[str, Any]) -> str:
    """Return queries per second, with a star if only a part of the search was timed."""
    if row.get("queries_per_second") is None:
        return "–"
    return f"{row['queries_per_second']:.1f}" + ("" if row["timed"] == WHOLE else "*")


def notes(result: dict[str, Any]) -> list[str]:
    """Return the notes on how the figures were measured."""
    rows = result["rows"]
    found = ["in percent; every query has one correct item, and all systems answered the same queries"]
    timed = sorted({row["timed"] for row in rows if row.get("timed")})
    if timed:
        found.append(
            f"queries/s: {result['timed_queries']} queries in one batch, {result['device']} "
            f"({result['machine']['threads']} threads), from text to items"
        )
    found += [f"* {what}" for what in timed if what != WHOLE]
    for policy in ("include", "exclude"):
        systems = dict.fromkeys(row["system"] for row in rows if row.get("index_captions") == policy)
        if systems:
            found.append(f"index captions of valid and test items in training, {policy}: {'; '.join(systems)}")
    if result["dataset"]:
        found.append(
            f"*paper:* as printed for {result['dataset']}, with other encoders and machines; its queries/s are for 1M "
            "simulated candidates (compare examples/efficiency/benchmark.py --items 1e6)"
        )
    return found + result["notes"]
