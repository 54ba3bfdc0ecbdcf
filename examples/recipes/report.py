"""The end of a recipe: ``OUT/metrics.json``, the metric table, and a few queries with their top items.

report.py OUT CHECKPOINT [R@1 R@5 R@10 MRR@10]      the paper's figures on the test queries, to stand beside
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cart_fairseq.data_bin import DataBin
from cart_fairseq.files import read_json, run_script, write_json
from cart_fairseq.retriever import CartRetriever

METRICS = {"recall_at_1": "R@1", "recall_at_5": "R@5", "recall_at_10": "R@10", "mrr_at_10": "MRR@10"}
MEASURED = ("valid", "test")
SHOWN_QUERIES, SHOWN_ITEMS, SEED = 5, 3, 1


def collect(out: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """What ``cart_fairseq.evaluate`` found: candidate set (``split``, ``all``) -> subset -> metrics in percent."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for chosen in ("split", "all"):
        paths = {subset: out / "results" / chosen / f"metrics.{subset}.json" for subset in MEASURED}
        found[chosen] = {subset: read_json(path) for subset, path in paths.items() if path.is_file()}
    return found


def table(found: dict[str, dict[str, dict[str, Any]]], manifest: dict[str, Any], paper: Sequence[float] = ()) -> str:
    """The metric table; every figure names the items that competed; last, the paper's figures."""
    lines = ["".join([f"{'subset':<8}{'queries':>9}  {'candidates':<20}", *(f"{m:>8}" for m in METRICS.values())])]
    for subset in MEASURED:
        for chosen, measured in found.items():
            if subset in measured:
                row = measured[subset]
                competing = f"{row['candidates']:,} ({'of the split' if chosen == 'split' else 'all items'})"
                figures = "".join(f"{row[metric]:>8.1f}" for metric in METRICS)
                lines.append(f"{subset:<8}{row['queries']:>9,}  {competing:<20}{figures}")
    if len(lines) == 1:
        return "no queries to measure on: give captions the role 'query', or several captions to each item"
    if paper:
        lines.append(f"{'test':<8}{'':>9}  {'(the paper)':<20}" + "".join(f"{figure:>8.1f}" for figure in paper))
    lines.append(f"in percent; index captions of valid and test items in training: {manifest['index_captions']}")
    if manifest["valid_held_out"]:
        lines.append("valid: no queries given, so a sample of training captions was held out")
    return "\n".join(lines)


def examples(out: Path, checkpoint: str, subset: str) -> str:
    """A few seeded queries of a subset, each with its best items; the wanted one is marked."""
    data = DataBin(out / "data-bin")
    queries = pq.read_table(out / "data-bin" / f"queries.{subset}.parquet").to_pylist()
    order = np.random.default_rng(SEED).permutation(len(queries))[:SHOWN_QUERIES]
    retriever = CartRetriever.from_pretrained(checkpoint, data=out / "data-bin")
    chosen = [queries[i] for i in order]
    found = retriever.search(
        [query["text"] for query in chosen], k=SHOWN_ITEMS, candidates=None if subset == "train" else subset
    )
    lines = [f"{subset} queries and their best items (* the wanted one):"]
    for query, hits in zip(chosen, found):
        lines.append(f"\n  {query['text']}")
        wanted = data.bundle.item_ids[query["item_row"]]
        lines += [f"   {'*' if hit.item_id == wanted else ' '} {hit.score:8.3f}  {hit.item_id}" for hit in hits]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``metrics.json`` and print the rest."""
    folder, checkpoint, *paper = sys.argv[1:] if argv is None else argv
    out = Path(folder)
    found = collect(out)
    write_json(out / "metrics.json", found["split"])
    print(table(found, read_json(out / "data-bin" / "manifest.json"), [float(figure) for figure in paper]))
    shown = next((subset for subset in reversed(MEASURED) if subset in found["split"]), "train")
    print("\n" + examples(out, checkpoint, shown))


if __name__ == "__main__":
    run_script(main)
