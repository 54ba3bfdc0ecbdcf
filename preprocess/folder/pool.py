"""Files read by worker processes. One that brings a worker down is named, and the others are read all the same."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from cart_fairseq.base.processes import end_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")

CHUNK = 32
"""Jobs that a worker takes at a time."""
AHEAD = 2
"""Chunks of each worker that wait or are at work."""


def run_jobs(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result | None]]:
    """Call a function for each job, in worker processes.

    Args:
        function: a function of a module, which raises nothing.
        jobs: its arguments.
        workers: number of processes. 0: this process does everything.

    Yields:
        Each job with its result, in any order; None if it brought its worker down.
    """
    if not workers or not jobs:
        yield from ((job, function(job)) for job in jobs)
        return
    chunks = (jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK))
    workers = min(workers, -(-len(jobs) // CHUNK))
    while True:
        suspects: list[Sequence[Job]] = []
        with _pool(workers) as pool:
            waiting: dict[Future[list[Result]], Sequence[Job]] = {}
            while not suspects:
                for chunk in islice(chunks, AHEAD * workers - len(waiting)):
                    waiting[pool.submit(_run_chunk, function, chunk)] = chunk
                if not waiting:
                    return
                future, chunk = next(iter(waiting.items()))
                try:
                    results = future.result()
                except BrokenProcessPool:
                    suspects = list(waiting.values())
                    break
                del waiting[future]
                yield from zip(chunk, results)
        yield from _one_by_one(function, [job for chunk in suspects for job in chunk])


def _one_by_one(function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[tuple[Job, Result | None]]:
    """Call the function for jobs, one of which brought a worker down."""
    rest = list(jobs)
    while rest:
        with _pool(1) as pool:
            while rest:
                job = rest.pop(0)
                try:
                    yield job, pool.submit(function, job).result()
                except BrokenProcessPool:
                    yield job, None
                    break


def _run_chunk(function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    return [function(job) for job in jobs]


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, which end with this one however it ends."""
    forks = sys.platform == "linux"  # elsewhere forked processes may not use the system's libraries
    context = multiprocessing.get_context("fork" if forks else "spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """Begin a worker: Ctrl-C is the parent's matter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
