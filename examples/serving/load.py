"""Load on a running service: how much it carries, and what it does when ten times as much arrives.

    python examples/serving/load.py --port 8000 --queries queries.txt --seconds 30 --json load.json

`closed` clients send a request when the last one is answered. `open` ones send at random times at a given rate, whatever
happens to the others, as strangers do.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

from http_client import Client, Reply, metrics
from provenance import provenance

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
        spent = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
        batches = after["cart_batch_queries_count"] - before["cart_batch_queries_count"]
        return {
            "seconds": seconds,
            "statuses": {
                str(status): count for status, count in sorted(Counter(r.status for r in self.replies).items())
            },
            "answered_per_second": len(good) / seconds,
            "answered_per_cpu_second": len(good) / spent if spent else None,
            "p50_ms": quantile(good, 0.5),
            "p99_ms": quantile(good, 0.99),
            "refusal_p99_ms": quantile(sorted(reply.seconds for reply in refused), 0.99),
            "refusals_without_retry_after": sum("retry-after" not in reply.headers for reply in refused),
            "queries_per_batch": (after["cart_batch_queries_sum"] - before["cart_batch_queries_sum"]) / max(1, batches),
            "memory_mib_before": before["process_resident_memory_bytes"] / 2**20,
            "memory_mib": after["process_resident_memory_bytes"] / 2**20,
        }


def quantile(values: Sequence[float], share: float) -> float | None:
    """A quantile of ascending seconds, in milliseconds."""
    return 1000 * values[min(len(values) - 1, int(share * len(values)))] if values else None


async def closed(port: int, clients: int, seconds: float, texts: Sequence[str], k: int) -> dict[str, Any]:
    """Clients that each wait for their answer before they ask again."""
    watch = Client(port)
    before, tally = await metrics(watch), Tally()
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        own, draw = Client(port), random.Random(number)
        while time.perf_counter() < end:
            reply = await own.search({"query": draw.choice(texts), "k": k})
            tally.replies.append(reply)
            if reply.status != 200:
                await asyncio.sleep(0.01)
        own.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return {"clients": clients, **tally.figures(before, await metrics(watch))}


async def open_loop(port: int, rate: float, seconds: float, texts: Sequence[str], k: int) -> dict[str, Any]:
    """Requests at random times, `rate` a second on average."""
    watch, draw = Client(port), random.Random(0)
    before, tally = await metrics(watch), Tally()
    idle: list[Client] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(text: str) -> None:
        own = idle.pop() if idle else Client(port)
        tally.replies.append(await own.search({"query": text, "k": k}))
        idle.append(own)

    due = time.perf_counter()
    end = due + seconds
    while (due := due + draw.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(draw.choice(texts)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for client in idle:
        client.close()
    return {"rate": rate, **tally.figures(before, await metrics(watch))}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="Load on a service that runs on this machine.")
    made.add_argument("--port", type=int, required=True, help="of the service")
    made.add_argument("--queries", type=Path, metavar="FILE", help="a query a line (default: five of our own)")
    made.add_argument("--clients", type=int, default=32, help="clients of the closed loop (default: %(default)s)")
    made.add_argument("--seconds", type=float, default=30.0, help="of each run (default: %(default)s)")
    made.add_argument("--rates", type=float, nargs="*", default=[], metavar="R", help="requests a second of open loops")
    made.add_argument("--k", type=int, default=10, help="items for each query (default: %(default)s)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the record to this file")
    return made


async def measure(args: argparse.Namespace, texts: Sequence[str]) -> list[dict[str, Any]]:
    """All runs, one after the other."""
    results = [await closed(args.port, args.clients, args.seconds, texts, args.k)]
    for rate in args.rates:
        await asyncio.sleep(1)
        results.append(await open_loop(args.port, rate, args.seconds, texts, args.k))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; see the module's docstring."""
    args = parser().parse_args(argv)
    texts = args.queries.read_text(encoding="utf-8").splitlines() if args.queries else TEXTS
    results = asyncio.run(measure(args, [text for text in texts if text.strip()]))
    for result in results:
        for name, value in result.items():
            print(printable(f"{name}: {value:.2f}" if isinstance(value, float) else f"{name}: {value}"))
        print()
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json"), "results": results})


if __name__ == "__main__":
    run_script(main)
