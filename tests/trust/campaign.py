"""Kills, damage, full disks and readers beside a writer, many times: `make trust`, or `campaign.py --help`.

Every trial is a fork of this process, which has imported everything, and works on its own copy of a small world. The
table that is printed counts outcomes by class. Any other class than those in `GOOD` is a fault, and the exit code is 1.
"""

import argparse
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]

import numpy as np  # noqa: E402
from changing import embed, make_data_bin, new_items  # noqa: E402
from conftest import ITEMS, write_jsonl  # noqa: E402

from cart_fairseq import CartRetriever  # noqa: E402
from cart_fairseq.catalogue.data_bin import DataBin  # noqa: E402
from cart_fairseq.files import write_json  # noqa: E402
from cart_fairseq.processes import is_expected  # noqa: E402
from cart_fairseq.tasks.checkpoints import load_models  # noqa: E402, F401 - imported before the forks
from preprocess.api import (  # noqa: E402
    IdentifierSettings,
    JoinSettings,
    add,
    binarize,
    build_identifiers,
    compact,
    join_captions,
    remove,
    verify,
)

OLD = HERE.parents[1] / "compatibility"
GOOD = ("done", "old or new, then done", "refused", "same result", "noticed by verify")
SECONDS = 60
QUICK = IdentifierSettings(scheme="residual-kmeans", kmeans_clusters=3, codebook_size=3, allow_collapse=True)
WRITES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "shutil.copyfile")
"""Audit events at which a trial may be killed."""


class Outcome(NamedTuple):
    """How a trial ended: `done` with a value, `refused` with a message, `traceback`, `killed` or `hang`."""

    kind: str
    value: Any = None


def forked(action: Callable[[], Any], seconds: float = SECONDS) -> Outcome:
    """Run an action in a fork of this process."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            ended = Outcome("done", action())
        except BaseException as error:
            expected = isinstance(error, Exception) and is_expected(error)
            ended = Outcome("refused", str(error)) if expected else Outcome("traceback", traceback.format_exc())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(ended, pipe)
        os._exit(0)
    os.close(write)
    late = signal.alarm(0), signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(int(seconds))
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    left = signal.alarm(0)
    signal.signal(signal.SIGALRM, late[1])
    _, status = os.waitpid(child, 0)
    if said:
        return pickle.loads(said)
    return Outcome("hang") if not left else Outcome("killed", os.waitstatus_to_exitcode(status))


def make_world(folder: Path) -> None:
    """A data-bin with dense features, what it was made from, and items to add."""
    shutil.rmtree(make_data_bin(folder))
    np.save(folder / "embeddings.npy", embed(ITEMS, 0))
    write_jsonl(folder / "items.jsonl", [{"item_id": f"item {i}"} for i in range(ITEMS)])
    embeddings = folder / "embeddings.npy"
    binarize(folder / "identifiers", folder / "captions.jsonl", folder / "data-bin", embeddings=embeddings)
    new_items(folder / "new", 5)
    add(folder / "data-bin", folder / "new" / "embeddings.npy", folder / "new" / "items.jsonl")
    remove(folder / "data-bin", ["item 2"])
    new_items(folder / "newer", 4, first=20)


def join(place: Path) -> Any:
    given = (place / name for name in ("embeddings.npy", "items.jsonl", "captions.jsonl", "joined"))
    embeddings, items, captions, output = given
    return join_captions(embeddings, items, captions, output, JoinSettings(text_dim=4, pca=4))


STEPS: dict[str, Callable[[Path], Any]] = {
    "add": lambda place: add(place / "data-bin", place / "newer" / "embeddings.npy", place / "newer" / "items.jsonl"),
    "remove": lambda place: remove(place / "data-bin", ["item 1", "item 7"]),
    "compact": lambda place: compact(place / "data-bin"),
    "build_identifiers": lambda place: build_identifiers(
        place / "embeddings.npy", place / "items.jsonl", place / "built", QUICK
    ),
    "binarize": lambda place: binarize(place / "identifiers", place / "captions.jsonl", place / "binned"),
    "join_captions": join,
}
UPDATES = ("add", "remove", "compact")


def shown(place: Path) -> dict[str, Any]:
    """What readers see of everything that the steps make."""
    found: dict[str, Any] = {}
    for name in ("data-bin", "binned"):
        if (place / name).exists():
            data = DataBin(place / name)
            dense = data.dense_items
            found[name] = {
                "ids": data.bundle.item_ids,
                "records": [data.bundle.record(row) for row in range(len(data.bundle))],
                "values": data.bundle.values.tolist(),
                "trie": [tensor.tolist() for tensor in (data.trie.rows, *data.trie.values)],
                "sets": {each: np.asarray(data.candidates(each)).tolist() for each in data.candidate_names},
                "queries": {each: data.queries(each).to_pydict() for each in data.subsets},
                "dense": None if dense is None else np.asarray(dense.embeddings).tolist(),
            }
    for name in ("data-bin", "built", "binned", "joined"):
        if (place / name).exists():
            verify(place / name)
    if (place / "built").exists():
        found["built"] = np.load(place / "built" / "identifiers.npy").tolist()
    if (place / "joined").exists():
        found["joined"] = np.load(place / "joined" / "embeddings.npy").tolist()
    return found


class Campaign:
    """The trials, and what came of them.

    Args:
        folder: an empty folder for worlds and copies.
        seed: of all that is drawn.
    """

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        self.draw = random.Random(seed)
        self.counts: dict[str, Counter[str]] = {}
        self.faults: list[str] = []
        self.shown = 0
        (folder / "world").mkdir()
        self._must(lambda: make_world(folder / "world"))
        self.before = self._must(lambda: shown(folder / "world"))

    def _must(self, action: Callable[[], Any]) -> Any:
        ended = forked(action)
        if ended.kind != "done":
            raise RuntimeError(f"{ended.kind}: {ended.value}")
        return ended.value

    def note(self, trial: str, kind: str, details: Any = "") -> None:
        """Count an outcome."""
        self.counts.setdefault(trial, Counter())[kind] += 1
        if kind not in GOOD:
            self.faults.append(f"{trial}: {kind}: {details}")

    def show(self) -> None:
        """Print the trials that have ended since the last call."""
        for trial, counts in [*self.counts.items()][self.shown :]:
            print(f"{trial:<28}", ", ".join(f"{kind}: {count}" for kind, count in sorted(counts.items())), flush=True)
        self.shown = len(self.counts)

    def copy(self, source: Path | None = None) -> Path:
        """A fresh copy of the world."""
        place = self.folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        return Path(shutil.copytree(source or self.folder / "world", place, symlinks=True))

    def kills(self, step: str, trials: int) -> None:
        """Kill a step at events drawn by chance; then the same step must finish."""
        run, place = STEPS[step], self.copy()
        total = self._must(lambda: at_event(lambda: run(place), None))
        after = self._must(lambda: shown(place))
        for _ in range(trials):
            place, event = self.copy(), self.draw.randrange(total)
            ended = forked(partial(at_event, partial(run, place), event))
            if ended.kind != "killed":
                self.note(f"kill {step}", ended.kind if ended.kind != "done" else "not killed", ended.value)
                continue
            self.note(f"kill {step}", *self.finishes(run, place, after))

    def finishes(self, run: Callable[[Path], Any], place: Path, after: Any) -> tuple[str, Any]:
        """Whether the old or the new state is there, and the same step finishes."""
        seen = forked(lambda: shown(place))
        if seen.kind != "done" or seen.value not in (self.before, after):
            return "lost", seen
        again = forked(lambda: (run(place), shown(place))[1])
        if again.kind != "done":
            return "blocked", again
        return ("old or new, then done", "") if again.value == after else ("wrong", "")

    def full_disks(self, step: str, sizes: int) -> None:
        """Files may not grow beyond sizes from nothing to enough."""
        run, place = STEPS[step], self.copy()
        self._must(lambda: run(place))
        after = self._must(lambda: shown(place))
        for number in range(sizes):
            place, size = self.copy(), int(12_000 * (number / sizes) ** 2)
            ended = forked(partial(limited, partial(run, place), size))
            if ended.kind == "refused":
                self.note(f"full disk, {step}", *self.finishes(run, place, after))
            else:
                self.note(f"full disk, {step}", ended.kind, ended.value)

    def mutations(self, trials: int) -> None:
        """Damage a file of a data-bin or a checkpoint and search; what differs must be noticed by `verify`."""
        source = self.folder / "searched"
        shutil.copytree(OLD / "plain" / "data-bin", source / "data-bin")
        shutil.copyfile(OLD / "plain.pt", source / "checkpoint.pt")
        expected = self._must(lambda: hits(source))
        files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
        for _ in range(trials):
            place, name = self.copy(source), self.draw.choice(files)
            mutation = self.draw.choice(sorted(MUTATIONS))
            content = (place / name).read_bytes()
            (place / name).write_bytes(MUTATIONS[mutation](bytearray(content), self.draw))
            ended = forked(partial(hits, place))
            details = f"{mutation} of {name}: {ended.value}"
            if ended.kind == "done" and ended.value == expected:
                self.note("damage", "same result")
            elif ended.kind == "done":
                noticed = forked(partial(verify_all, place))
                self.note("damage", "noticed by verify" if noticed.kind == "refused" else "wrong", details)
            else:
                self.note("damage", ended.kind, details)

    def readers(self, seconds: float) -> None:
        """Open a data-bin again and again while another process updates it; every item must have its own vector."""
        place, end = self.copy(), time.monotonic() + seconds
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
            ended = forked(lambda: consistent(place / "data-bin", vectors))
            kind = ended.kind if ended.kind != "done" or ended.value else "mixed states"
            self.note("readers beside a writer", "lost" if kind == "refused" else kind, ended.value)
            ended_writer, status = os.waitpid(writer, os.WNOHANG)
        self.note("the writer", "wrong" if status else "done")


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


def at_event(action: Callable[[], Any], event: int | None) -> int:
    """Run an action and kill this process at an event; without one, return how many there are."""
    seen, active = 0, True

    def hook(name: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if not active or name not in WRITES:
            return
        if name == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        if seen == event:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    sys.addaudithook(hook)
    action()
    active = False
    return seen


def limited(action: Callable[[], Any], size: int) -> None:
    """Run an action in which no file grows beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    action()


def verify_all(place: Path) -> None:
    """Verify the data-bin and the checkpoint."""
    for each in place.iterdir():
        verify(each)


def hits(place: Path) -> list[Any]:
    """What a search finds."""
    retriever = CartRetriever.from_pretrained(place / "checkpoint.pt", data=place / "data-bin", device="cpu")
    found = retriever.search(["a red dog", "a blue cat runs"], k=5, candidates="test")
    return [[(hit.item_id, round(hit.score, 4), hit.record) for hit in each] for each in found]


def consistent(path: Path, vectors: dict[str, list[float]]) -> bool:
    """Whether an open data-bin shows one state."""
    data = DataBin(path)
    dense, rows = data.dense_items, data.bundle.kept
    assert dense is not None
    ids, everything = data.bundle.item_ids, data.candidates("all")
    time.sleep(0.05)  # the writer goes on
    return (
        sorted(data.trie.rows.tolist()) == rows.tolist()
        and (len(rows) == len(ids) if everything is None else everything.tolist() == rows.tolist())
        and all(data.bundle.record(row)["item_id"] == ids[row] for row in rows.tolist())
        and all(dense.embeddings[row].tolist() == vectors.get(ids[row], dense.embeddings[row].tolist()) for row in rows)
        and all(max(data.queries(subset)["item_row"].to_pylist()) < len(ids) for subset in data.subsets)
    )


def _flip(content: bytearray, draw: random.Random) -> bytes:
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def _overwrite(content: bytearray, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    content[at : at + 64] = draw.randbytes(len(content[at : at + 64]))
    return bytes(content)


MUTATIONS: dict[str, Callable[[bytearray, random.Random], bytes]] = {
    "flip": _flip,
    "overwrite": _overwrite,
    "cut": lambda content, draw: bytes(content[: draw.randrange(len(content))]),
    "zeros": lambda content, draw: bytes(len(content)),
    "empty": lambda content, draw: b"",
    "longer": lambda content, draw: bytes(content) + draw.randbytes(50),
    "garbage": lambda content, draw: draw.randbytes(len(content)),
}


def main() -> None:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(description="Kills, damage, full disks and readers beside a writer, many times.")
    parser.add_argument("--kills", type=int, default=200, help="kills of each update; a quarter of them of other steps")
    parser.add_argument("--mutations", type=int, default=1500, help="damaged files")
    parser.add_argument("--sizes", type=int, default=30, help="sizes of a full disk for each step")
    parser.add_argument("--seconds", type=int, default=600, help="readers beside a writer")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn")
    parser.add_argument("--folder", type=Path, help="where copies of the world lie, such as /dev/shm, which is fast")
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        campaign = Campaign(Path(folder), args.seed)
        for step in STEPS:
            campaign.kills(step, args.kills if step in UPDATES else args.kills // 4)
            campaign.full_disks(step, args.sizes)
            campaign.show()
        campaign.mutations(args.mutations)
        campaign.readers(args.seconds)
        campaign.show()
    for fault in campaign.faults[:20]:
        print(f"fault: {fault}", file=sys.stderr)
    if args.json:
        record = {"seed": args.seed, "seconds": round(time.monotonic() - started), "counts": campaign.counts}
        write_json(args.json, json.loads(json.dumps(record)))
    raise SystemExit(bool(campaign.faults))


if __name__ == "__main__":
    main()
