"""The queue: batches, refusals, times, clients that leave."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from cart_fairseq.serving.batching import Batcher, Job
from cart_fairseq.serving.errors import Refusal
from cart_fairseq.serving.metrics import Metrics


class Search:
    """A search that waits until it may go on, and remembers its batches and threads."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.threads: set[int] = set()
        self.open = threading.Event()
        self.open.set()

    def __call__(self, batch: Sequence[Any]) -> list[Any]:
        self.batches.append([*batch])
        self.threads.add(threading.get_ident())
        assert self.open.wait(30)
        return [KeyError(asked) if asked == "bad" else f"found {asked}" for asked in batch]


Story = Callable[[Batcher, Search], Coroutine[Any, Any, None]]


def play(story: Story, **options: Any) -> Metrics:
    """Run a story with a batcher; return its metrics."""
    metrics = Metrics()

    async def run() -> None:
        search = Search()
        own = {"max_batch": 4, "batch_wait": 0.2, "capacity": 6, "timeout": 30.0, **options}
        batcher = Batcher(search, metrics, **own)
        task = asyncio.create_task(batcher.run())
        try:
            await story(batcher, search)
        finally:
            search.open.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            batcher.close()

    asyncio.run(run())
    return metrics


async def busy(batcher: Batcher, search: Search) -> "asyncio.Task[Any]":
    """Begin a search that lasts until `search.open` is set."""
    search.open.clear()
    first = asyncio.create_task(batcher.submit(Job("first", 1)))
    while not search.batches:
        await asyncio.sleep(0.01)
    return first


def submit(batcher: Batcher, *asked: Any, size: int = 1) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(batcher.submit(Job(each, size))) for each in asked]


def test_what_waits_is_searched_together_and_in_order():
    async def story(batcher: Batcher, search: Search) -> None:
        first = await busy(batcher, search)
        others = submit(batcher, *"abcdef")
        await asyncio.sleep(0.01)
        assert batcher.waiting == 6
        search.open.set()
        assert await asyncio.gather(first, *others) == [f"found {each}" for each in ("first", *"abcdef")]
        assert search.batches[1:] == [[*"abcd"], [*"ef"]]
        assert len(search.threads) == 1

    play(story)


def test_a_request_with_many_queries_counts_as_many():
    async def story(batcher: Batcher, search: Search) -> None:
        first = await busy(batcher, search)
        others = [*submit(batcher, "a", size=3), *submit(batcher, "b", size=2)]
        await asyncio.sleep(0.01)
        assert batcher.waiting == 5
        with pytest.raises(Refusal):
            await batcher.submit(Job("c", 2))
        search.open.set()
        await asyncio.gather(first, *others)
        assert search.batches[1:] == [["a"], ["b"]]

    play(story)


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits():
    async def story(batcher: Batcher, search: Search) -> None:
        assert await batcher.submit(Job("large", 100)) == "found large"

    play(story)


def test_over_capacity_is_refused_at_once_with_the_time_to_wait():
    async def story(batcher: Batcher, search: Search) -> None:
        first = await busy(batcher, search)
        others = submit(batcher, *"abcdef")
        await asyncio.sleep(0.01)
        batcher.pace = 0.7
        released: list[int] = []
        with pytest.raises(Refusal) as refused:
            await batcher.submit(Job("one too many", 1, lambda: released.append(1)))
        assert refused.value.status == 429
        assert refused.value.headers["retry-after"] == "5"  # 6 waiting and 1 searched, 0.7 s each
        assert released == [1]
        search.open.set()
        await asyncio.gather(first, *others)

    metrics = play(story)
    assert metrics.registry.get_sample_value("cart_refusals_total", {"reason": "overload"}) == 1


def test_what_could_not_be_answered_in_time_is_refused():
    async def story(batcher: Batcher, search: Search) -> None:
        first = await busy(batcher, search)
        batcher.pace = 31.0
        with pytest.raises(Refusal) as refused:
            await batcher.submit(Job("late", 1))
        assert refused.value.status == 429
        search.open.set()
        await first

    play(story)


def test_a_request_leaves_the_queue_when_its_time_is_over():
    async def story(batcher: Batcher, search: Search) -> None:
        first = await busy(batcher, search)
        released: list[int] = []
        with pytest.raises(Refusal) as refused:
            await batcher.submit(Job("waits", 1, lambda: released.append(1)))
        assert refused.value.status == 503
        assert "retry-after" in refused.value.headers
        assert (batcher.waiting, released) == (0, [1])
        search.open.set()
        with pytest.raises(Refusal):  # its time was over, too, but its search had begun
            await first
        await asyncio.sleep(0.05)
        assert search.batches == [["first"]]

    metrics = play(story, timeout=0.3)
    assert metrics.registry.get_sample_value("cart_refusals_total", {"reason": "timeout"}) == 2


def test_a_client_that_left_is_not_searched_for():
    async def story(batcher: Batcher, search: Search) -> None:
        first = await busy(batcher, search)
        left, stays = submit(batcher, "left", "stays")
        await asyncio.sleep(0.01)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert batcher.waiting == 1
        search.open.set()
        assert await stays == "found stays"
        await first
        assert search.batches == [["first"], ["stays"]]

    metrics = play(story)
    assert metrics.registry.get_sample_value("cart_refusals_total", {"reason": "left"}) == 1


def test_files_are_released_after_the_search_not_before():
    async def story(batcher: Batcher, search: Search) -> None:
        released: list[str] = []
        search.open.clear()
        job = Job("a", 1, lambda: released.append("a"))
        task = asyncio.create_task(batcher.submit(job))
        while not search.batches:
            await asyncio.sleep(0.01)
        task.cancel()  # the client leaves while its search goes on
        await asyncio.gather(task, return_exceptions=True)
        assert released == []
        search.open.set()
        assert await batcher.submit(Job("b", 1)) == "found b"
        assert released == ["a"]

    play(story)


def test_an_error_is_its_own_request_s():
    async def story(batcher: Batcher, search: Search) -> None:
        first = await busy(batcher, search)
        good, bad = submit(batcher, "good", "bad")
        search.open.set()
        assert await good == "found good"
        with pytest.raises(KeyError):
            await bad
        await first

    play(story)


def test_a_search_that_fails_as_a_whole_ends_nothing():
    async def story(batcher: Batcher, search: Search) -> None:
        search.batches = None  # type: ignore[assignment]  # the next search raises AttributeError
        with pytest.raises(AttributeError):
            await batcher.submit(Job("a", 1))
        search.batches = []
        assert await batcher.submit(Job("b", 1)) == "found b"

    play(story)


def test_one_client_alone_waits_for_nobody():
    async def story(batcher: Batcher, search: Search) -> None:
        began = time.monotonic()
        for number in range(3):
            await batcher.submit(Job(number, 1))
        assert time.monotonic() - began < 30  # each would wait a minute for others

    play(story, batch_wait=60.0, timeout=120.0)


def test_clients_of_the_last_batch_are_waited_for():
    async def story(batcher: Batcher, search: Search) -> None:
        first = await busy(batcher, search)
        others = submit(batcher, "a", "b")
        await asyncio.sleep(0.01)
        search.open.set()
        await asyncio.gather(first, *others)
        assert search.batches[-1] == ["a", "b"]
        [c] = submit(batcher, "c")
        await asyncio.sleep(0.05)  # the second client is slower
        [d] = submit(batcher, "d")
        await asyncio.gather(c, d)
        assert search.batches[-1] == ["c", "d"]

    play(story, batch_wait=20.0)
