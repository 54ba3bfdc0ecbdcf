"""Measure what a query of each kind costs beside a text.

    cost.py RUN --json FILE [--queries 400] [--batch 100]

RUN is OUT of a run with a dense head. All items compete. The same queries are asked one at a time and in batches, as a
text, an item, an embedding, and a text with an item; kinds alternate after each batch. A query by a media file
takes the time of its encoder, which is not measured, and that of a query by embedding.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).resolve().parents[1] / "recipes"), str(Path(__file__).resolve().parent)]

import numpy as np
from media_queries import embeddings_of
from plan import checkpoint_of
from provenance import provenance

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.files import refuse_unwritable, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.queries.query import Query
from cart_fairseq.retriever import CartRetriever

DEPTH = 10
KINDS = ("text", "item", "embedding", "text and item")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="cost.py", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("run", type=Path, help="OUT of a run with a dense head")
    result.add_argument("--queries", type=int, default=400, help="number of queries of each kind (%(default)s)")
    result.add_argument("--batch", type=int, default=100, help="queries in a batch (%(default)s)")
    result.add_argument("--seed", type=int, default=1, help="of the choice of queries (%(default)s)")
    result.add_argument("--json", type=Path, help="file for the figures")
    return result


def queries_of(retriever: CartRetriever, count: int, seed: int) -> dict[str, list[Query]]:
    """The same valid queries as each kind: captions, and the items that they describe."""
    asked = retriever.data.queries("valid", ("text", "item_row")).to_pylist()
    asked = [asked[int(number)] for number in np.random.default_rng(seed).permutation(len(asked))[:count]]
    texts = [each["text"] for each in asked]
    rows = [each["item_row"] for each in asked]
    ids = [retriever.data.bundle.item_id(row) for row in rows]
    return {
        "text": [Query(text=text) for text in texts],
        "item": [Query(item_id=each) for each in ids],
        "embedding": [Query(embedding=row) for row in embeddings_of(retriever, np.array(rows))],
        "text and item": [Query(text=text, item_id=each) for text, each in zip(texts, ids, strict=True)],
    }


def milliseconds(retriever: CartRetriever, queries: dict[str, list[Query]], batch: int) -> dict[str, float]:
    """Mean time of a query of each kind in batches of a size."""
    seconds = dict.fromkeys(queries, 0.0)
    count = len(queries["text"])
    for each in queries.values():  # what is loaded at the first query is not its cost
        retriever.search(each[:batch], DEPTH)
    for start in track(range(0, count, batch), f"batches of {batch}", "batches"):
        for kind, each in queries.items():
            began = time.perf_counter()
            retriever.search(each[start : start + batch], DEPTH)
            seconds[kind] += time.perf_counter() - began
    return {kind: 1000 * spent / count for kind, spent in seconds.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    for name in ("queries", "batch"):
        check_count(f"--{name}", getattr(args, name))
    refuse_unwritable(args.json)
    retriever = CartRetriever.from_pretrained(checkpoint_of(args.run / "checkpoints"), args.run / "data-bin")
    queries = queries_of(retriever, args.queries, args.seed)
    results: list[dict[str, Any]] = []
    for batch in (1, args.batch):
        spent = milliseconds(retriever, queries, batch)
        for kind, each in spent.items():
            results.append({"batch": batch, "query": kind, "milliseconds": each, "ratio_to_text": each / spent["text"]})
            print(f"batches of {batch}, {kind}: {each:.1f} ms a query, {each / spent['text']:.2f} of a text's")
    if args.json:
        positions = getattr(retriever.models[0].reader, "positions", 0)
        record = {"queries": len(queries["text"]), "media_positions": positions, "results": results}
        write_json(args.json, {**provenance(vars(args), "json", "run"), **record})


if __name__ == "__main__":
    run_script(main)
