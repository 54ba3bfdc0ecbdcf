"""Progress of long steps: a bar in a terminal, occasional lines in a pipe or a log file.

Bars are tqdm's. By default tqdm's lock is shared with forked children. If a child is killed while it holds the lock,
the parent's next bar waits for ever. Here each process has its own lock, and a forked child gets a new one. This
includes bars that other libraries draw with tqdm.
"""

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

FIRST_LINE = 2.0
"""Seconds until the first line. A step that ends earlier prints nothing."""
USUAL_GAP, LARGEST_SHARE = 30.0, 1 / 20
"""The gap between lines doubles up to ``USUAL_GAP`` seconds, and later is ``LARGEST_SHARE`` of the elapsed time."""

Item = TypeVar("Item")


class Progress:
    """Counts the finished units of a step and shows the count on standard error.

    Args:
        total: the number of units, or None if unknown.
        step: name of the step, such as "embedding".
        units: name of the units in the plural, such as "items".
        done: number of units that an earlier, interrupted run finished.
        announce: where there is no terminal, a line for the beginning of a step that takes minutes; None for no line.

    Example:
        >>> with Progress(1000, "embedding", "items") as progress:
        ...     progress.update(600)
        ...     progress.done
        600
    """

    def __init__(self, total: int | None, step: str, units: str, done: int = 0, announce: str | None = None):
        self.total, self.step, self.units, self.done = total, step, units, done
        self._note, self._lines = "", 0
        self._began = self._shown = time.monotonic()
        self._shown_done, self._due = done, self._began + FIRST_LINE
        self._bar: Any = None
        if sys.stderr.isatty():
            scale = total is None or total >= 100_000
            self._bar = tqdm_class()(
                total=total, desc=step, unit=f" {units}", initial=done, unit_scale=scale, dynamic_ncols=True
            )
        elif announce:
            print(f"{step}: {announce}", file=sys.stderr, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._lines and kind is None:
            print(
                f"{self.step}: {self.done:,} {self.units} in {clock(time.monotonic() - self._began)}", file=sys.stderr
            )

    def update(self, count: int = 1) -> None:
        """Add `count` finished units."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif (now := time.monotonic()) >= self._due:
            rate = (self.done - self._shown_done) / (now - self._shown)
            print(f"{self.step}: {self._state(rate)}", file=sys.stderr, flush=True)
            elapsed = now - self._began
            self._shown, self._shown_done, self._lines = now, self.done, self._lines + 1
            self._due = now + max(FIRST_LINE, min(elapsed, USUAL_GAP), elapsed * LARGEST_SHARE)

    def resume(self, done: int) -> None:
        """Begin to measure now, with `done` units that an earlier, interrupted run finished."""
        self.done = self._shown_done = done
        self._shown = time.monotonic()
        if self._bar is not None:
            self._bar.reset()
            self._bar.initial = self._bar.n = self._bar.last_print_n = done

    def foresee(self, one: Callable[[], object]) -> None:
        """Where there is no terminal, say how long the step will take, before its first batch of units is finished.

        A terminal shows that the step is at work, so nothing is done there.

        Args:
            one: does one unit alone. Units in batches take less time, and later ones need no start.
        """
        if self._bar is not None or not self.total or self.total - self.done < 2:
            return
        began = time.monotonic()
        one()
        expected = (time.monotonic() - began) * (self.total - self.done)
        if expected >= USUAL_GAP:
            todo = f"{self.total - self.done:,} {self.units}"
            print(f"{self.step}: {todo}, at most about {clock(expected)} expected", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Show `text` after the count from now on."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def _state(self, rate: float) -> str:
        """Format count, share, rate, time left and note, as far as known; `rate` is in units per second."""
        parts = [f"{self.done:,} {self.units}"]
        if self.total:
            parts = [f"{self.done:,} of {self.total:,} {self.units} ({self.done / self.total:.0%})"]
        if rate:
            parts.append(f"{number(rate)} a second" if rate >= 1 else f"{number(rate * 60)} a minute")
        if rate and self.total:
            parts.append(f"{clock((self.total - self.done) / rate)} left")
        return ", ".join([*parts, *([self._note] if self._note else [])])


def track(items: Iterable[Item], step: str, units: str, total: int | None = None, done: int = 0) -> Iterator[Item]:
    """Yield the items and count each one when the next is requested; see `Progress`.

    Args:
        items: the items.
        step, units, done: see `Progress`.
        total: the number of items (default: the length of `items`, if it has one).
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(total, step, units, done) as progress:
        for item in items:
            yield item
            progress.update()


def number(value: float) -> str:
    """Format a count or rate: whole numbers from 100 on, two significant digits below.

    Example:
        >>> number(12345.6), number(3.14159)
        ('12,346', '3.1')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def clock(seconds: float) -> str:
    """Format a duration as M:SS, or H:MM:SS from one hour on.

    Example:
        >>> clock(75.2), clock(7384)
        ('1:15', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@functools.cache
def tqdm_class() -> Any:
    """Import tqdm on first use, and give it a lock of this process."""
    from tqdm import tqdm  # noqa: TID251

    renew_lock()
    return tqdm


def renew_lock() -> None:
    """Give tqdm and its subclasses a new lock that only threads of this process share."""
    kinds = [getattr(sys.modules.get("tqdm.std"), "tqdm", None)]
    lock = threading.RLock()
    while kinds:
        kind = kinds.pop()
        if kind is not None:
            kind.set_lock(lock)
            kinds += kind.__subclasses__()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_lock)
