"""Micro-batches: requests that arrive at the same time are searched together, by one thread.

The queue is bounded. What comes on top of it is refused at once. A request whose client has left, or whose time is
over, leaves the queue without a search.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from cart_fairseq.serving.errors import Refusal
from cart_fairseq.serving.metrics import Metrics

FIRST_PACE = 0.05
"""Seconds for each query, before any search was measured."""
SHARE = 0.2
"""Share of the latest search in the mean of the pace."""


@dataclass(eq=False)
class Job:
    """One request in the queue.

    Attributes:
        asked: what is searched.
        size: its number of queries.
        release: called once the request's files are no longer needed.
    """

    asked: Any
    size: int
    release: Callable[[], None] = lambda: None
    entered: float = field(default_factory=time.monotonic)
    answer: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """Collects jobs into batches and searches one batch at a time.

    Args:
        search: searches a batch in the thread; returns an answer or an exception for each job.
        metrics: of the service.
        max_batch: the largest number of queries in a batch of several jobs.
        batch_wait: seconds that the first job of a batch waits for others.
        capacity: the largest number of waiting queries.
        timeout: seconds in which a job is answered.
    """

    def __init__(
        self,
        search: Callable[[Sequence[Any]], Sequence[Any]],
        metrics: Metrics,
        max_batch: int,
        batch_wait: float,
        capacity: int,
        timeout: float,
    ):
        self._search = search
        self._metrics = metrics
        self.max_batch, self.batch_wait, self.capacity, self.timeout = max_batch, batch_wait, capacity, timeout
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._searching = 0
        self._goal, self._ended = 1, 0.0
        self.waiting = 0
        self.pace = FIRST_PACE
        metrics.capacity.set(capacity)

    def refuse_overload(self, size: int = 1) -> None:
        """Refuse a job of this size if there is no room for it, or no time.

        A job for which the queue is too small at any time is taken when nothing waits.

        Raises:
            Refusal: 429 with the time to wait, from the pace of the last searches.
        """
        full = self.waiting > 0 and self.waiting + size > self.capacity
        seconds = (self.waiting + self._searching) * self.pace
        if full or seconds > self.timeout:
            self._metrics.refusals.labels("overload").inc()
            found = f"{self.waiting} queries wait already, of {self.capacity} at most"
            raise Refusal(429, "queue", found, "try again later", max(1, math.ceil(seconds)))

    async def submit(self, job: Job) -> Any:
        """Wait for the answer of a job.

        Raises:
            Refusal: there is no room, or no answer in time.
        """
        try:
            self.refuse_overload(job.size)
        except Refusal:
            job.release()
            raise
        self._jobs.append(job)
        self._count(job.size)
        self._arrived.set()
        try:
            return await asyncio.wait_for(job.answer, self.timeout)
        except asyncio.TimeoutError:  # of Python 3.10, too
            self._metrics.refusals.labels("timeout").inc()
            seconds = max(1, math.ceil(self.waiting * self.pace))
            raise Refusal(503, "queue", f"no answer in {self.timeout:g} s", "try again later", seconds) from None
        finally:
            if job in self._jobs:  # not taken yet, and not wanted any more
                self._jobs.remove(job)
                self._count(-job.size)
                job.release()
                if job.answer.cancelled():
                    self._metrics.refusals.labels("left").inc()

    async def run(self) -> None:
        """Search batches until the task is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._gather()
            batch = self._take()
            size = self._searching = sum(job.size for job in batch)
            began = time.monotonic()
            try:
                answers = await loop.run_in_executor(self._thread, self._search, [job.asked for job in batch])
            except Exception as error:
                answers = [error] * len(batch)
            self._searching, self._ended = 0, time.monotonic()
            self._goal = min(self.max_batch, size + self.waiting)
            self.pace += SHARE * ((self._ended - began) / size - self.pace)
            self._metrics.batches.observe(size)
            self._metrics.searches.observe(self._ended - began)
            for job, answer in zip(batch, answers, strict=True):
                job.release()
                if job.answer.done():
                    continue
                if isinstance(answer, BaseException):
                    job.answer.set_exception(answer)
                else:
                    job.answer.set_result(answer)

    async def _gather(self) -> None:
        """Wait for a job; then, but not long, for the clients of the last batch, which may ask again."""
        while True:
            while not self._jobs:
                self._arrived.clear()
                await self._arrived.wait()
            left = max(self._jobs[0].entered, self._ended) + self.batch_wait - time.monotonic()
            if self.waiting >= self._goal or left <= 0:
                return
            self._arrived.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _take(self) -> list[Job]:
        """Take jobs from the queue, in the order of their arrival."""
        batch: list[Job] = []
        size, now = 0, time.monotonic()
        while self._jobs and (not batch or size + self._jobs[0].size <= self.max_batch):
            job = self._jobs.popleft()
            self._count(-job.size)
            self._metrics.waits.observe(now - job.entered)
            batch.append(job)
            size += job.size
        return batch

    def _count(self, size: int) -> None:
        self.waiting += size
        self._metrics.waiting.set(self.waiting)

    async def between(self, work: Callable[[], Any]) -> Any:
        """Call a function in the thread, between two searches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """End the thread after its search."""
        self._thread.shutdown(wait=True)
