"""Load on a running service: how much it carries, and what it does when ten times as much arrives.

    python examples/serving/load.py --port 8000 --queries queries.txt --seconds 30 --json load.json

`closed` clients send a request when the last one is answered. `open` ones send at random times at a given rate, whatever
happens to the others, as strangers do. `--times` are rates in multiples of what the closed clients were answered.
`--target` and `--pid` measure another service with the same queries.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

from http_client import Client, Reply
from provenance import provenance
from targets import CPU, MEMORY, TARGETS, Target, costs

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import printable

TEXTS = ["a red dog in the snow", "a white bird near a river", "two people on the beach", "an old house", "a cat"]


class Tally:
    """Replies of one run."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.began = time.perf_counter()

    def figures(self, before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
        """Throughput, times in milliseconds, refusals; processor time and memory of the service."""
        seconds = time.perf_counter() - self.began
        good = sorted(reply.seconds for reply in self.replies if reply.status == 200)
        refused = [reply for reply in self.replies if reply.status == 429]
        spent = after[CPU] - before[CPU]
        queries, batches = (
            after.get(name, 0) - before.get(name, 0) for name in ("cart_batch_queries_sum", "cart_batch_queries_count")
        )
        return {
            "seconds": seconds,
            "statuses": {
                str(status): count for status, count in sorted(Counter(r.status for r in self.replies).items())
            },
            "refused": len(refused),
            "failed": len(self.replies) - len(good) - len(refused),
            "answered_per_second": len(good) / seconds,
            "answered_per_cpu_second": len(good) / spent if spent else None,
            "p50_ms": quantile(good, 0.5),
            "p99_ms": quantile(good, 0.99),
            "refusal_p99_ms": quantile(sorted(reply.seconds for reply in refused), 0.99),
            "refusal_max_ms": quantile(sorted(reply.seconds for reply in refused), 1.0),
            "refusals_without_retry_after": sum("retry-after" not in reply.headers for reply in refused),
            "queries_per_batch": queries / batches if batches else None,
            "memory_mib_before": before[MEMORY] / 2**20,
            "memory_mib": after[MEMORY] / 2**20,
            "memory_growth_percent": 100 * (after[MEMORY] / before[MEMORY] - 1),
        }


def quantile(values: Sequence[float], share: float) -> float | None:
    """A quantile of ascending seconds, in milliseconds."""
    return 1000 * values[min(len(values) - 1, int(share * len(values)))] if values else None


class Load(NamedTuple):
    """What is asked.

    Attributes:
        port: of the service.
        target: the kind of the service.
        texts: the queries, of which each request draws one.
        k: items for each query.
        pid: of the service's process; None: its own metrics say what it costs.
    """

    port: int
    target: Target
    texts: Sequence[str]
    k: int
    pid: int | None = None

    async def costs(self) -> dict[str, float]:
        """Processor time and memory so far, by a new connection: services close those that are idle for long."""
        client = Client(self.port)
        found = await costs(client, self.pid)
        client.close()
        return found


async def closed(load: Load, clients: int, seconds: float) -> dict[str, Any]:
    """Clients that each wait for their answer before they ask again."""
    before, tally = await load.costs(), Tally()
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        own, draw = Client(load.port), random.Random(number)
        while time.perf_counter() < end:
            reply = await load.target.ask(own, draw.choice(load.texts), load.k)
            tally.replies.append(reply)
            if reply.status != 200:
                await asyncio.sleep(0.01)
        own.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return {"clients": clients, **tally.figures(before, await load.costs())}


async def open_loop(load: Load, rate: float, seconds: float) -> dict[str, Any]:
    """Requests at random times, `rate` a second on average."""
    draw = random.Random(0)
    before, tally = await load.costs(), Tally()
    idle: list[Client] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(text: str) -> None:
        own = idle.pop() if idle else Client(load.port)
        tally.replies.append(await load.target.ask(own, text, load.k))
        idle.append(own)

    due = time.perf_counter()
    end = due + seconds
    while (due := due + draw.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(draw.choice(load.texts)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for client in idle:
        client.close()
    return {"rate": rate, **tally.figures(before, await load.costs())}


def texts_of(file: Path | None) -> list[str]:
    """The queries of a file, a line each; without a file five of our own."""
    lines = file.read_text(encoding="utf-8").splitlines() if file else TEXTS
    return [line for line in lines if line.strip()]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="Load on a service that runs on this machine.")
    made.add_argument("--port", type=int, required=True, help="of the service")
    made.add_argument("--queries", type=Path, metavar="FILE", help="a query a line (default: five of our own)")
    made.add_argument("--clients", type=int, default=32, help="clients of the closed loop (default: %(default)s)")
    made.add_argument("--seconds", type=float, default=30.0, help="of each run (default: %(default)s)")
    closed = "of the closed loop, if not --seconds"
    made.add_argument("--closed-seconds", type=float, metavar="S", help=closed)
    made.add_argument("--rates", type=float, nargs="*", default=[], metavar="R", help="requests a second of open loops")
    made.add_argument(
        "--times", type=float, nargs="*", default=[], metavar="T", help="such rates as multiples of the closed loop's"
    )
    made.add_argument("--target", choices=TARGETS, default="cart", help="kind of the service (default: %(default)s)")
    costly = "process of the service, whose cost is measured with what it started (default: the service's own metrics)"
    made.add_argument("--pid", type=int, metavar="N", help=costly)
    made.add_argument("--k", type=int, default=10, help="items for each query (default: %(default)s)")
    made.add_argument("--about", default="", metavar="TEXT", help="what is measured, for the record")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the record to this file")
    return made


def origin(args: argparse.Namespace, queries: int) -> dict[str, Any]:
    """What a record begins with: commit, machine, settings without paths, and the seed of the clients' draws."""
    left_out = ("json", "pid", "port", "queries", "data", "path", "join", "chromium", "python")
    found = provenance(vars(args), *left_out)
    return {**found, "seed": 0, "settings": {**found["settings"], "distinct_queries": queries}}


async def measure(args: argparse.Namespace, texts: Sequence[str]) -> list[dict[str, Any]]:
    """All runs, one after the other."""
    load = Load(args.port, TARGETS[args.target], texts, args.k, args.pid)
    await load.target.check(Client(args.port), texts[0], args.k)
    results = [await closed(load, args.clients, args.closed_seconds or args.seconds)]
    for rate in [*args.rates, *(times * results[0]["answered_per_second"] for times in args.times)]:
        await asyncio.sleep(1)
        results.append(await open_loop(load, rate, args.seconds))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; see the module's docstring."""
    args = parser().parse_args(argv)
    texts = texts_of(args.queries)
    results = asyncio.run(measure(args, texts))
    for result in results:
        for name, value in result.items():
            print(printable(f"{name}: {value:.2f}" if isinstance(value, float) else f"{name}: {value}"))
        print()
    if args.json:
        write_json(args.json, {**origin(args, len(texts)), "results": results})


if __name__ == "__main__":
    run_script(main)
