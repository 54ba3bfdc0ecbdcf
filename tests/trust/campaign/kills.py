"""Steps that are killed, readers beside a writer."""

import os
import random
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from changing import embed
from conftest import ITEMS, write_jsonl
from trials import Campaign, forked, killed_at, must, writes_of
from worlds import STEPS, UPDATES, Step, consistent, hits, make_dense, verify_all

from cart_fairseq.publishing import renewing
from cart_fairseq.steps.tuning import SHARE_STATE, keep
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


SEARCHES: dict[str, Step] = {
    "renew": lambda place: renewing.renewal(place / "checkpoint.pt", place / "data-bin")(),
    "tune's keep": lambda place: keep(place / "checkpoint.pt", {SHARE_STATE: 0.25}),
}
"""What writes beside a checkpoint's searches, or into the checkpoint."""


def kills_of_searches(campaign: Campaign, trials: int) -> None:
    """Kill what writes for searches; these find the same before and after, or what the new checkpoint says."""
    source = campaign.made("dense-model", make_dense)
    bare = campaign.copy(source, campaign.folder / "bare")
    shutil.rmtree(bare / "data-bin" / "search")
    for step, run in SEARCHES.items():
        place = campaign.copy(bare)
        before, total = must(partial(found_by, place)), writes_of(partial(run, place))
        after = must(partial(done_and_found, run, campaign.copy(bare)))
        for _ in range(trials):
            place = campaign.copy(bare)
            forked(partial(killed_at, partial(run, place), campaign.draw.randrange(total)))
            seen, again = forked(partial(found_by, place)), forked(partial(done_and_found, run, place))
            if seen.kind != "done" or seen.value["hits"] not in (before["hits"], after["hits"]):
                campaign.note(f"kill {step}", "lost", seen)
            elif again.kind != "done":
                campaign.note(f"kill {step}", "blocked", again)
            else:
                same = again.value == after
                campaign.note(f"kill {step}", "old or new, then done" if same else "wrong", (again.value, after))
        campaign.show()
    shutil.rmtree(bare)


def found_by(place: Path) -> dict[str, Any]:
    """What a search finds, all of whose files are whole, and the names of those that it reads beside the data-bin."""
    verify_all(place)
    stored = place / "data-bin" / "search"
    return {"hits": hits(place), "stored": sorted(str(path.relative_to(stored)) for path in stored.rglob("*"))}


def done_and_found(run: Step, place: Path) -> dict[str, Any]:
    """Run a step, and search."""
    run(place)
    return found_by(place)


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
