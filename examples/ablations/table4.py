"""Print the paper's Table 4 from the runs that table4.sh made.

table4.py OUT SUBSET
"""

import json
import sys
from pathlib import Path

LINES = {
    "without-consistency": "w/o consistency loss",
    "without-fusion": "w/o fusion strategy",
    "without-kmeans": "w/o K-Means",
    "without-rqvae": "w/o RQ-VAE",
    "cart": "CART",
}
METRICS = {"recall_at_1": "R@1", "recall_at_5": "R@5", "recall_at_10": "R@10", "mrr_at_10": "MRR@10"}


def table(out: Path, subset: str) -> str:
    """The table in Markdown, with the share of distinct codes that the identifiers of each line have."""
    rows = ["| Setting | " + " | ".join(METRICS.values()) + " | distinct codes |", "| --- |" + " --- |" * 5]
    for folder, name in LINES.items():
        measured = json.loads((out / folder / "metrics.json").read_text(encoding="utf-8"))[subset]
        report = json.loads((out / folder / "identifiers" / "report.json").read_text(encoding="utf-8"))
        figures = " | ".join(f"{measured[metric]:.1f}" for metric in METRICS)
        rows.append(f"| {name} | {figures} | {100 * report['unique_codes'] / report['items']:.1f} % |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]), sys.argv[2]))
