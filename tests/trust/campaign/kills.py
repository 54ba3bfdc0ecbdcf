"""Steps that are killed, readers beside a writer."""

import os
import random
import time
from functools import partial
from pathlib import Path

import numpy as np
from changing import embed
from conftest import ITEMS, write_jsonl
from trials import Campaign, forked, killed_at, writes_of
from worlds import STEPS, UPDATES, consistent

from preprocess.api import add, compact, remove


def kills(campaign: Campaign, trials: int) -> None:
    """Kill each step at writes drawn by chance, updates four times as often; then the same step must finish."""
    for step, run in STEPS.items():
        place = campaign.copy()
        total, after = writes_of(partial(run, place)), campaign.after(run)
        for _ in range(trials if step in UPDATES else max(1, trials // 4)):
            place, event = campaign.copy(), campaign.draw.randrange(total)
            ended = forked(partial(killed_at, partial(run, place), event))
            if ended.kind != "killed":
                kind = ended.kind if ended.kind != "done" else "not killed"
                campaign.note(f"kill {step}", kind, ended.value)
                continue
            campaign.note(f"kill {step}", *campaign.finishes(run, place, after))
        campaign.show()


def readers(campaign: Campaign, seconds: float) -> None:
    """Open a data-bin again and again while another process updates it; every item must have its own vector."""
    place, end = campaign.copy(), time.monotonic() + seconds
    vectors = {f"item {row}": vector.tolist() for row, vector in enumerate(embed(ITEMS, 0))}
    writer = os.fork()
    if not writer:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            write_until(end, place, vectors)
            status = 0
        finally:
            os._exit(status)
    ended_writer, status = 0, 0
    while not ended_writer:
        ended = forked(lambda: consistent(place / "data-bin", vectors, partial(time.sleep, 0.05)))
        kind = ended.kind if ended.kind != "done" or ended.value else "mixed states"
        campaign.note("readers beside a writer", "lost" if kind == "refused" else kind, ended.value)
        ended_writer, status = os.waitpid(writer, os.WNOHANG)
    campaign.note("the writer", "wrong" if status else "done")


def write_until(end: float, place: Path, vectors: dict[str, list[float]]) -> None:
    """Take items out of a data-bin, renumber the others, and add them again, until a time."""
    draw, data = random.Random(2), place / "data-bin"
    while time.monotonic() < end:
        item = draw.choice([each for each in vectors if each != "item 2"])
        np.save(place / "one.npy", np.array([vectors[item]], np.float32))
        write_jsonl(place / "one.jsonl", [{"item_id": item}])
        remove(data, [item])
        compact(data)
        add(data, place / "one.npy", place / "one.jsonl")
