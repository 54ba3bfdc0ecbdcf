"""What is asked of a service under load, and what it costs: this project's, and those of ``rivals``."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from http_client import Client, Reply, metrics

Asked = tuple[str, str, Any]
"""Method, path, and what is sent as JSON; None: nothing."""


class Target(NamedTuple):
    """A service.

    Attributes:
        request: makes the request for a text and a number of items.
        hits: the number of items in an answer's JSON.
    """

    request: Callable[[str, int], Asked]
    hits: Callable[[Any], int]

    async def ask(self, client: Client, text: str, k: int) -> Reply:
        """Ask for the k best items for a text."""
        return await client.ask_json(*self.request(text, k))

    async def check(self, client: Client, text: str, k: int) -> None:
        """Ask once.

        Raises:
            ValueError: the answer is not one of k items.
        """
        reply = await self.ask(client, text, k)
        if reply.status != 200 or self.hits(reply.json()) != k:
            said = reply.body[:300].decode(errors="replace")
            raise ValueError(
                f"the first answer is {reply.status} {said}, not one of {k} items; check --target and --port"
            )


def _clip(text: str, k: int) -> Asked:
    fields = {"modality": "image", "num_images": k, "num_result_ids": k, "indice_name": "items"}
    return "POST", "/knn-service", {"text": text, **fields}


TARGETS = {
    "cart": Target(
        lambda text, k: ("POST", "/api/search", {"query": text, "k": k}), lambda found: len(found["results"][0]["hits"])
    ),
    "clip-retrieval": Target(_clip, len),
    "litserve": Target(lambda text, k: ("POST", "/predict", {"query": text, "k": k}), lambda found: len(found["hits"])),
    "txtai": Target(lambda text, k: ("GET", f"/search?query={quote(text)}&limit={k}", None), len),
}
"""By the name that ``--target`` takes."""
CPU, MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"
"""Names of the service's own metrics, which figures of processes have, too."""


async def costs(client: Client, pid: int | None) -> dict[str, float]:
    """Processor time and memory so far: the service's own metrics, or those of a process and all that it started.

    Raises:
        ValueError: there is no such process.
    """
    return await metrics(client) if pid is None else processes(pid)


def processes(pid: int) -> dict[str, float]:
    """Processor seconds and bytes of memory of a process and all that it started, from Linux's /proc.

    Memory that several of them share is counted once.

    Raises:
        ValueError: there is no such process.
    """
    if not Path(f"/proc/{pid}").is_dir():
        raise ValueError(f"--pid is {pid}: no such process; give that of the service, on Linux")
    found = {CPU: 0.0, MEMORY: 0.0}
    for each in descendants(pid):
        folder = Path(f"/proc/{each}")
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        ticks = sum(map(int, fields[11:15]))  # its own, and of children that have ended
        found[CPU] += ticks / os.sysconf("SC_CLK_TCK")
        found[MEMORY] += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return found


def descendants(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += descendants(int(child))
    return found
