"""Progress of long steps: a bar in a terminal; in a pipe or a log file, one line now and then.

Bars are tqdm's. By default a process and the children it forks share tqdm's lock. A child that is killed while it holds
the lock then stops the next bar of its parent for good. Here the lock belongs to one process, and a forked child gets a
fresh one, which also holds for bars that other libraries draw with tqdm.
"""

import functools
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

FIRST_LINE = 2.0
"""Seconds before the first line. A step that ends earlier prints nothing."""
USUAL_GAP, LARGEST_SHARE = 30.0, 1 / 20
"""Lines come at doubling intervals up to 30 seconds, later after each twentieth of the time so far."""

Item = TypeVar("Item")


class Progress:
    """Counts what a step has done and shows it on the standard error.

    Args:
        total: how many there are, or None where that is not known.
        step: what is done, such as "embedding".
        units: what is counted, in the plural, such as "items".
        done: how many an earlier, interrupted run has done.

    Example:
        >>> with Progress(1000, "embedding", "items") as progress:
        ...     progress.update(600)
        ...     progress.done
        600
    """

    def __init__(self, total: int | None, step: str, units: str, done: int = 0):
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
        """Add `count` to what is done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif (now := time.monotonic()) >= self._due:
            rate = (self.done - self._shown_done) / (now - self._shown)
            print(f"{self.step}: {self._state(rate)}", file=sys.stderr, flush=True)
            elapsed = now - self._began
            self._shown, self._shown_done, self._lines = now, self.done, self._lines + 1
            self._due = now + max(FIRST_LINE, min(elapsed, USUAL_GAP), elapsed * LARGEST_SHARE)

    def note(self, text: str) -> None:
        """Show `text` with the count from now on."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def _state(self, rate: float) -> str:
        """Count, share, units a second since the last line, expected time left and note, as far as they are known."""
        parts = [f"{self.done:,} {self.units}"]
        if self.total:
            parts = [f"{self.done:,} of {self.total:,} {self.units} ({self.done / self.total:.0%})"]
        if rate:
            parts.append(f"{number(rate)} a second" if rate >= 1 else f"{number(rate * 60)} a minute")
        if rate and self.total:
            parts.append(f"{clock((self.total - self.done) / rate)} left")
        return ", ".join([*parts, *([self._note] if self._note else [])])


def track(items: Iterable[Item], step: str, units: str, total: int | None = None, done: int = 0) -> Iterator[Item]:
    """Yield the items, each counted when the next is asked for; see `Progress`.

    Args:
        total: how many there are; not needed where `items` has a length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(total, step, units, done) as progress:
        for item in items:
            yield item
            progress.update()


def number(value: float) -> str:
    """A count or rate without digits that nobody reads.

    Example:
        >>> number(12345.6), number(3.14159)
        ('12,346', '3.1')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, with hours where there are any.

    Example:
        >>> clock(75.2), clock(7384)
        ('1:15', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@functools.cache
def tqdm_class() -> Any:
    """tqdm, imported when the first bar is drawn, with a lock that belongs to this process."""
    from tqdm import tqdm  # noqa: TID251

    renew_lock()
    return tqdm


def renew_lock() -> None:
    """Give tqdm and the classes derived from it a fresh lock that only threads of this process share."""
    kinds = [getattr(sys.modules.get("tqdm.std"), "tqdm", None)]
    lock = threading.RLock()
    while kinds:
        kind = kinds.pop()
        if kind is not None:
            kind.set_lock(lock)
            kinds += kind.__subclasses__()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_lock)
