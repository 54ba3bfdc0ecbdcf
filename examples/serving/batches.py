"""The service beside the search that it is built on: queries answered per second of processor time, in turn.

    python examples/serving/batches.py --port 8000 --data data-bin --path checkpoints/checkpoint_best.pt --json batches.json

`CartRetriever.search` answers batches in this process; clients that wait for their answers ask the service, which runs on
this machine with the same data-bin and checkpoint. What both have to do changes place in each round, so that what else
the machine does weighs on both.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from http_client import Client
from load import Load, closed, origin, texts_of
from targets import TARGETS

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import printable
from cart_fairseq.retriever import CartRetriever


def searched(
    retriever: CartRetriever, texts: Sequence[str], batch: int, k: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Search batches of random queries for some seconds."""
    draw, queries = random.Random(seed), 0
    began, spent = time.perf_counter(), time.process_time()
    while time.perf_counter() < began + seconds:
        retriever.search([draw.choice(texts) for _ in range(batch)], k)
        queries += batch
    spent = time.process_time() - spent
    return {"answered": queries, "cpu_seconds": spent, "answered_per_cpu_second": queries / spent}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="The service beside CartRetriever.search, by processor time.")
    made.add_argument("--port", type=int, required=True, help="of the service, on this machine")
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="the service's data-bin")
    made.add_argument("--path", type=Path, required=True, metavar="CKPT", help="the service's checkpoint")
    made.add_argument("--queries", type=Path, metavar="FILE", help="a query a line (default: five of our own)")
    made.add_argument("--beam", type=int, metavar="N", help="the service's beam width (default: that of both)")
    made.add_argument("--clients", type=int, default=32, help="clients of the service (default: %(default)s)")
    made.add_argument("--batch", type=int, default=32, help="queries in a batch (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=5, help="of both, in turn (default: %(default)s)")
    made.add_argument("--seconds", type=float, default=10.0, help="of each in a round (default: %(default)s)")
    made.add_argument("--k", type=int, default=10, help="items for each query (default: %(default)s)")
    made.add_argument("--about", default="", metavar="TEXT", help="what is measured, for the record")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the record to this file")
    return made


async def measure(args: argparse.Namespace, retriever: CartRetriever, texts: Sequence[str]) -> dict[str, Any]:
    """All rounds; the share is of queries and processor time of all of them."""
    load = Load(args.port, TARGETS["cart"], texts, args.k)
    await load.target.check(Client(args.port), texts[0], args.k)
    retriever.search(texts[: args.batch], args.k)
    service, alone = [], []
    for number in range(args.rounds):
        both = [True, False] if number % 2 else [False, True]
        for asks in both:
            if asks:
                service.append(await closed(load, args.clients, args.seconds))
            else:
                alone.append(searched(retriever, texts, args.batch, args.k, args.seconds, number))
    answered = sum(each["statuses"].get("200", 0) for each in service)
    spent = sum(each["statuses"].get("200", 0) / each["answered_per_cpu_second"] for each in service)
    of_service = answered / spent
    of_search = sum(each["answered"] for each in alone) / sum(each["cpu_seconds"] for each in alone)
    return {
        "service_per_cpu_second": of_service,
        "search_per_cpu_second": of_search,
        "share": of_service / of_search,
        "rounds": [{"service": one, "search": other} for one, other in zip(service, alone, strict=True)],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; see the module's docstring."""
    args = parser().parse_args(argv)
    texts = texts_of(args.queries)
    retriever = CartRetriever.from_pretrained(args.path, args.data, args.beam)
    found = asyncio.run(measure(args, retriever, texts))
    for name in ("service_per_cpu_second", "search_per_cpu_second", "share"):
        print(printable(f"{name}: {found[name]:.2f}"))
    if args.json:
        write_json(args.json, {**origin(args, len(texts)), "results": [found]})


if __name__ == "__main__":
    run_script(main)
