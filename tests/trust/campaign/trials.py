"""A trial is a fork of this process, which has imported everything, on its own copy of a small world."""

import os
import pickle
import random
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from worlds import make_world, shown

from cart_fairseq.base.processes import is_expected

GOOD = ("done", "old or new, then done", "refused", "same result", "noticed by verify")
SECONDS = 60
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


def must(action: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """The value of an action that has to end well.

    Raises:
        RuntimeError: it did not.
    """
    ended = forked(action, seconds)
    if ended.kind != "done":
        raise RuntimeError(f"{ended.kind}: {ended.value}")
    return ended.value


def watched(action: Callable[[], Any], events: Collection[int], then: Callable[[int], None]) -> int:
    """Run an action, with a call of `then` before the writes of some numbers; return how many writes there are."""
    seen, active = 0, True

    def hook(name: str, args: tuple[Any, ...]) -> None:
        nonlocal seen, active
        if not active or name not in WRITES:
            return
        if name == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        if seen in events:
            active = False
            then(seen)
            active = True
        seen += 1

    sys.addaudithook(hook)
    action()
    active = False
    return seen


def killed_at(action: Callable[[], Any], event: int) -> int:
    """Run an action and kill this process before a write."""
    return watched(action, [event], lambda _: os.kill(os.getpid(), signal.SIGKILL))


def writes_of(action: Callable[[], Any]) -> int:
    """How many writes an action makes; run in a fork of its own."""
    return must(lambda: watched(action, (), lambda _: None))


class Campaign:
    """The trials, and what came of them.

    Args:
        folder: an empty folder for worlds and copies.
        seed: of all that is drawn.

    Attributes:
        world: what most trials copy.
        before: what readers see of it.
        skipped: part -> why it cannot be run here.
    """

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        self.draw = random.Random(seed)
        self.counts: dict[str, Counter[str]] = {}
        self.faults: list[str] = []
        self.skipped: dict[str, str] = {}
        self._printed = 0
        self.world = self.made("world", make_world)
        self.before = must(lambda: shown(self.world))

    def made(self, name: str, make: Callable[[Path], Any]) -> Path:
        """A world of its own name, made once."""
        path = self.folder / name
        if not path.exists():
            if make is make_world or make.__name__ == "make_join":
                path.mkdir()
            must(lambda: make(path), 300)
        return path

    def note(self, trial: str, kind: str, details: Any = "") -> None:
        """Count an outcome."""
        self.counts.setdefault(trial, Counter())[kind] += 1
        if kind not in GOOD:
            self.faults.append(f"{trial}: {kind}: {details}")

    def skip(self, part: str, reason: str) -> None:
        """Say that a part cannot be run here."""
        self.skipped[part] = reason
        print(f"{part:<36} skipped: {reason}", flush=True)

    def show(self) -> None:
        """Print the trials that have ended since the last call."""
        for trial, counts in [*self.counts.items()][self._printed :]:
            print(f"{trial:<36}", ", ".join(f"{kind}: {count}" for kind, count in sorted(counts.items())), flush=True)
        self._printed = len(self.counts)

    def copy(self, source: Path | None = None, place: Path | None = None) -> Path:
        """A fresh copy of a world."""
        target = place or self.folder / "trial"
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(source or self.world, target, symlinks=True))

    def after(self, run: Callable[[Path], Any]) -> Any:
        """What readers see once a step has ended."""
        place = self.copy()
        return must(lambda: (run(place), shown(place))[1])

    def finishes(self, run: Callable[[Path], Any], place: Path, after: Any, only_new: bool = False) -> tuple[str, Any]:
        """Whether the old or the new state is there, and the same step finishes.

        Args:
            only_new: the step has said that it is done.
        """
        seen = forked(lambda: shown(place))
        if seen.kind != "done" or seen.value not in ([after] if only_new else [self.before, after]):
            return "lost", seen
        again = forked(lambda: (run(place), shown(place))[1])
        if again.kind == "refused" and only_new:  # an update that was done is not done twice
            return "old or new, then done", ""
        if again.kind != "done":
            return "blocked", again
        return ("old or new, then done", "") if again.value == after else ("wrong", "")
