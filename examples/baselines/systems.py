"""What is measured of each system: the metrics of `cart_fairseq.measuring.results`, and queries per second."""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

from collection import Collection
from plan import checkpoint_of

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.labels import METRIC_NAMES, MRR_CUTOFF
from cart_fairseq.measuring.results import Query, subset_queries
from cart_fairseq.retriever import CartRetriever

DEPTH = MRR_CUTOFF
TIMED_RUNS = 3
SCHEMES = {
    "coarse-fine": "CART, coarse-fine ids",
    "atomic": "atomic ids",
    "structured": "structured ids",
    "hierarchical-kmeans": "hierarchical k-means ids",
    "rqvae": "RQ-VAE ids",
    "semantic": "semantic ids",
    "residual-kmeans": "residual k-means ids",
}
OWN = "coarse-fine"
WHOLE = "text to items"


def rate(run: Callable[[], Any], queries: int) -> float:
    """Return queries per second: the median of `TIMED_RUNS` runs after a warm-up run.

    Args:
        run: answers a batch of queries.
        queries: the number of queries in the batch.
    """
    seconds = []
    for _ in range(TIMED_RUNS + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return queries / statistics.median(seconds[1:])


def line(
    system: str, tables: Sequence[int], competing: str, candidates: int, figures: dict[str, float], queries: int
) -> dict[str, Any]:
    """Return one row of the tables, without its speed.

    Args:
        tables: numbers of the paper's tables to which it belongs.
        competing: `split` or `all`.
        figures: recall@1/5/10 and MRR@10 in percent.
    """
    metrics = {name: round(value, 4) for name, value in figures.items()}
    return {
        "system": system,
        "tables": list(tables),
        "competing": competing,
        "candidates": candidates,
        "queries": queries,
        **metrics,
    }


def remembered(path: Path, settings: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the row in a file if it was measured with these settings. Otherwise measure a row and write it there."""
    before = read_json(path) if path.is_file() else {}
    if before.get("settings") != settings:
        before = {"settings": settings, "line": make()}
        write_json(path, before)
    return before["line"]


def run_folders(given: Sequence[Path]) -> list[Path]:
    """Return the given folders that examples/own_data/run.sh wrote; for other folders, such folders directly below.

    Raises:
        ValueError: a folder has none.
    """
    found = []
    for folder in given:
        below = [folder] if (folder / "data-bin").is_dir() else sorted(p.parent for p in folder.glob("*/data-bin"))
        if not below:
            raise ValueError(
                f"{folder}: no data-bin in it or its subfolders; give an output of examples/own_data/run.sh"
            )
        found += below
    return found


def measured_run(
    folder: Path, collection: Collection, split: str, competing: str, timed: int, device: str
) -> dict[str, Any]:
    """Return the metrics of a split from a folder of examples/own_data/run.sh, and the speed of its checkpoint.

    Args:
        timed: number of queries in the timed batch. 0: no timing.

    Raises:
        ValueError: the folder has no such metrics, or they are for other queries or candidates.
    """
    data = DataBin(folder / "data-bin")
    scheme = read_json(data.directory / "identifiers" / "report.json").get("scheme", OWN)
    path = folder / "results" / competing / f"metrics.{split}.json"
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; run examples/own_data/run.sh to its end on a data set with {split} queries"
        )
    found = read_json(path)
    queries, _ = collection.queries(split)
    same_queries(folder, data, subset_queries(data, split), queries, collection)
    if found["candidates"] != len(collection.candidates(split, competing)):
        raise ValueError(
            f"{path}: {found['candidates']:,} candidates, {collection.folder} has "
            f"{len(collection.candidates(split, competing)):,}; run it again on these data"
        )
    figures = {name: found[name] for name in METRIC_NAMES}
    tables = (1, 2, 3) if scheme == OWN else (3,)
    own = line(SCHEMES.get(scheme, scheme), tables, competing, found["candidates"], figures, found["queries"])
    own |= {"run": str(folder), "scheme": scheme, "index_captions": found["index_captions"]}
    if timed:
        texts = [query.text for query in queries[:timed]]
        chosen = None if competing == "all" else split
        checkpoint = checkpoint_of(folder / "checkpoints")
        retriever = CartRetriever.from_pretrained(checkpoint, data=folder / "data-bin", device=device)
        own["queries_per_second"] = rate(lambda: retriever.search(texts, k=DEPTH, candidates=chosen), len(texts))
        own["timed"] = WHOLE
    return own


def same_queries(
    folder: Path, data: DataBin, there: Sequence[Query], here: Sequence[Query], collection: Collection
) -> None:
    """Check that a run was measured on the collection's queries.

    Raises:
        ValueError: a query differs; the message gives its position.
    """
    wanted = [(query.query_id, query.text, collection.items[query.item_row]["item_id"]) for query in here]
    found = [(query.query_id, query.text, data.bundle.item_id(query.item_row)) for query in there]
    if wanted != found:
        at = next((i for i, (a, b) in enumerate(zip(wanted, found)) if a != b), min(len(wanted), len(found)))
        raise ValueError(
            f"{folder}: its {len(found):,} queries differ from the {len(wanted):,} of {collection.folder}, starting "
            f"with query {at}; give the data of the run"
        )
