"""Updates of a data-bin under load: does every request get a right answer, and how soon is a new item found?

    python examples/serving/live_updates.py --port 8000 --data data-bin --updates 100 --items 10 --json updates.json

The service must run on this machine, on this data-bin. Items are added, and removed again by every second update; at the
end the catalogue has the items that it had. Every answer names the revision that it is from; its items must be of that
revision.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
from http_client import Client, metrics
from load import TEXTS, origin

from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.catalogue.data_bin import DataBin
from preprocess import api
from preprocess.data import joined_folder

NEW = "of a live update"


class Expected:
    """Which items each revision has.

    Args:
        data: the data-bin, before the first update.
    """

    def __init__(self, data: DataBin):
        self.items = {data.bundle.revision: {data.bundle.item_id(row) for row in data.bundle.kept.tolist()}}

    def wrong(self, answer: dict[str, Any], before: int, after: int) -> str | None:
        """What is wrong with an answer; None if nothing is.

        Args:
            before: the newest revision of which an answer had come when this one was asked for.
            after: the newest revision there may be.
        """
        revision = answer["catalogue"]["revision"]
        if not before <= revision <= after:
            return f"revision {revision}, not from {before} to {after}"
        known = self.items[revision]
        if answer["catalogue"]["items"] != len(known):
            return f"{answer['catalogue']['items']} items in revision {revision}, not {len(known)}"
        foreign = {hit["item_id"] for result in answer["results"] for hit in result["hits"]} - known
        return f"items {sorted(foreign)} are not of revision {revision}" if foreign else None


def write_new(folder: Path, number: int, items: int, width: int, join: Path | None) -> tuple[Path, Path]:
    """Write new items into a folder; return the paths of their embeddings and of `items.jsonl`.

    Args:
        number: of the update.
        width: of the embeddings that the catalogue was built from.
        join: the join that it was built from, whose rows the new items repeat; None for random embeddings.
    """
    draw, names = np.random.default_rng(number), names_of(number, items)
    given = folder / "embeddings.npy"
    if join is None:
        np.save(given, draw.standard_normal((items, width)).astype(np.float32))
    else:
        given, record = folder / "join", joined_folder.read_record(join)
        given.mkdir()
        chosen = draw.integers(record["items"], size=items)
        files = {}
        for name in (joined_folder.ITEMS, joined_folder.ALIGNED, joined_folder.ORIGINALS):
            if name in record["files"]:
                np.save(given / name, np.load(join / name, mmap_mode="r")[chosen])
                files[name] = sha256(given / name)
        own = {"items": items, "item_ids": joined_folder.items_digest(names), "files": files}
        write_json(given / joined_folder.RECORD, record | own)
    listed = "".join(json.dumps({"item_id": item_id}) + "\n" for item_id in names)
    (folder / "items.jsonl").write_text(listed, encoding="utf-8")
    return given, folder / "items.jsonl"


async def apply_update(
    updater: ProcessPoolExecutor, args: argparse.Namespace, number: int, width: int, added: Sequence[str]
) -> None:
    """Add items, or remove those that were added, in another process, as a command does."""
    loop = asyncio.get_running_loop()
    if added:
        await loop.run_in_executor(updater, api.remove, args.data, added, args.path)
        return
    with tempfile.TemporaryDirectory() as folder:
        new = write_new(Path(folder), number, args.items, width, args.join)
        await loop.run_in_executor(updater, api.add, args.data, *new, api.AddSettings(), None, args.path)


def names_of(number: int, items: int) -> list[str]:
    """The ids of the items that an update adds."""
    return [f"{number} {item} {NEW}" for item in range(items)]


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """Update under load."""
    data = DataBin(args.data)
    width = int(data.bundle.codec_settings["dimension"])
    expected = Expected(data)
    newest, seen, done = data.bundle.revision, data.bundle.revision, False
    faults: list[str] = []
    statuses: Counter[int] = Counter()
    found_after: list[float] = []

    async def client(number: int) -> None:
        nonlocal seen
        own, draw = Client(args.port), random.Random(number)
        while not done:
            before = seen
            reply = await own.search({"query": draw.choice(TEXTS), "k": 20})
            statuses[reply.status] += 1
            if reply.status == 200:
                fault = expected.wrong(reply.json(), before, newest)
                seen = max(seen, reply.json()["catalogue"]["revision"])
                faults.extend([fault] if fault else [])
            elif reply.status != 429:
                faults.append(f"status {reply.status}")
        own.close()

    at_first = await metrics(Client(args.port))
    clients = [asyncio.create_task(client(number)) for number in range(args.clients)]
    await asyncio.sleep(1)
    added: list[str] = []
    updater = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    await asyncio.get_running_loop().run_in_executor(updater, callable, api.add)  # it imports what it needs
    for number in range(args.updates):
        names = [] if added else names_of(number, args.items)
        expected.items[newest + 1] = expected.items[newest] - {*added} | {*names}
        newest += 1
        await apply_update(updater, args, number, width, added)
        ended, added, watch = time.monotonic(), names, Client(args.port)
        while time.monotonic() < ended + 60:
            answer = (await watch.search({"query": TEXTS[0], "candidates": names or None, "k": 1})).json()
            if answer.get("catalogue", {}).get("revision") == newest:
                break
            await asyncio.sleep(0.05)
        watch.close()
        found_after.append(time.monotonic() - ended)
        said = f"update {number + 1}: found {found_after[-1]:.2f} s after its end, {sum(statuses.values())} answers"
        print(said, flush=True)
    updater.shutdown()
    await asyncio.sleep(1)
    done = True
    await asyncio.gather(*clients)
    at_last = await metrics(Client(args.port))
    return {
        "updates": args.updates,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "faults": faults[:20],
        "fault_count": len(faults),
        "found_after_seconds_max": max(found_after),
        "found_after_seconds_median": sorted(found_after)[len(found_after) // 2],
        "memory_mib_before": at_first["process_resident_memory_bytes"] / 2**20,
        "memory_mib": at_last["process_resident_memory_bytes"] / 2**20,
        "swaps": at_last["cart_catalogue_swaps_total"] - at_first["cart_catalogue_swaps_total"],
        "refused_states": at_last["cart_catalogue_refused_total"] - at_first["cart_catalogue_refused_total"],
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="Update a data-bin that a service on this machine answers from.")
    made.add_argument("--port", type=int, required=True, help="of the service")
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data-bin, which is changed")
    made.add_argument(
        "--join", type=Path, metavar="FOLDER", help="the join that the identifiers were built from, if any"
    )
    renewed = "the checkpoint, for the update to write what its searches read (large catalogues)"
    made.add_argument("--path", type=Path, metavar="CKPT", help=renewed)
    made.add_argument("--updates", type=int, default=100, help="half of them add items (default: %(default)s)")
    made.add_argument("--items", type=int, default=20, help="items of each update (default: %(default)s)")
    made.add_argument("--clients", type=int, default=8, help="clients that search meanwhile (default: %(default)s)")
    made.add_argument("--about", default="", metavar="TEXT", help="what is measured, for the record")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the record to this file")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print; see the module's docstring.

    Raises:
        ValueError: a request failed or had a wrong answer.
    """
    args = parser().parse_args(argv)
    found = asyncio.run(run(args))
    for name, value in found.items():
        print(f"{name}: {value}")
    if args.json:
        write_json(args.json, {**origin(args, len(TEXTS)), "results": [found]})
    if found["fault_count"]:
        raise ValueError(f"{found['fault_count']} wrong answers; the first: {found['faults'][0]}")


if __name__ == "__main__":
    run_script(main)
