"""The table at the end of ``run.sh``: metrics of each model for old and new items."""

from pathlib import Path

from cart_fairseq.base.reading import read_json
from cart_fairseq.measuring.labels import METRIC_LABELS

STATES = {
    "before": "before the new items came",
    "added": "(a) added, no training",
    "fine-tuned": "(b) added, short fine-tuning",
    "retrained": "(c) made anew with all",
}
JOINED = {
    "no-priors": "(a) without priors",
    "tower-before": "dual tower of the old items, before",
    "tower-added": "dual tower of the old items, with all",
    "tower-retrained": "dual tower made anew with all",
}
"""Rows that only a run with a join has."""
MEASURED = {"old.all": "old items", "new.all": "new items", "new.test": "new items, among themselves"}
METRICS = {name: METRIC_LABELS[name] for name in ("recall_at_1", "recall_at_10", "mrr_at_10")}


def table(results: Path) -> str:
    """Return the table in Markdown. The header of each column gives the number of queries and candidates."""
    rows = STATES | {state: title for state, title in JOINED.items() if any(results.glob(f"{state}.*.json"))}
    found = {(s, m): results / f"{s}.{m}.json" for s in rows for m in MEASURED}
    metrics = {key: read_json(path) for key, path in found.items() if path.is_file()}
    heads = []
    for measured, name in MEASURED.items():
        latest = metrics["retrained", measured]
        heads.append(f"{name}: {latest['queries']:,} queries, {latest['candidates']:,} candidates")
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    names = " / ".join(METRICS.values())
    for state, title in rows.items():
        cells = []
        for measured in MEASURED:
            row = metrics.get((state, measured))
            figures = " / ".join(f"{row[metric]:.1f}" for metric in METRICS) if row else "–"
            if row and row["candidates"] != metrics["retrained", measured]["candidates"]:
                figures += f" (of {row['candidates']:,})"
            cells.append(figures)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"{names}, in percent"])
