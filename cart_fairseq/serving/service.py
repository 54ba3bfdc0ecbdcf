"""The service without HTTP: what answers, the queue before it, and the watch over the files that it was opened from."""

import asyncio
import logging
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from cart_fairseq.publishing.renewing import is_renewed
from cart_fairseq.search.dense.stored_arrays import STORED
from cart_fairseq.serving import loading
from cart_fairseq.serving.batching import Batcher, Job
from cart_fairseq.serving.errors import Refusal
from cart_fairseq.serving.metrics import Metrics
from cart_fairseq.serving.searching import Answer, Asked, search, with_embedding
from cart_fairseq.serving.served import Served
from cart_fairseq.serving.settings import ServingSettings

RETRY = 30.0
"""Seconds until a state that could not be opened is tried again, although nothing has changed."""
PATIENCE, MORE_PATIENCE = 60.0, 900.0
"""Seconds in which the first file that searches of a large catalogue read may follow an update, and each further one."""

MOST_FILES = 8
"""Uploaded files that are read or wait for it."""
READING = 0.5
"""Share of the time for a request that reading its file may take. What takes longer is the file's fault, not the load's."""

logger = logging.getLogger(__name__)


class Service:
    """Answers searches from the newest sound state of data-bin and checkpoint.

    Args:
        settings: of the service.

    Attributes:
        served: what answers now. It is replaced between two batches.
        ending: whether the service was told to end.
        model: the MODEL folder, or the name of one on the Hub, as it was given; None for a checkpoint.

    Raises:
        ValueError: the data-bin or the checkpoint is missing or damaged.
    """

    def __init__(self, settings: ServingSettings):
        self.model = settings.model
        self.settings = settings = loading.with_local_model(settings)
        self.metrics = Metrics()
        self.ending = False
        self._stamps = loading.stamps_of(settings)
        self.served = loading.load(settings)
        self._pace = self.served.warm()
        self._renewed = is_renewed(self.served.models, self.served.data)
        self._show()
        self._tasks: list[asyncio.Task[Any]] = []
        self._refused: loading.Stamps | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._reading = 0

    @property
    def ready(self) -> bool:
        """Whether the service answers searches and goes on doing so."""
        return bool(self._tasks) and not self.ending

    @property
    def uploads(self) -> Path:
        """The folder of uploaded files, which ends with the service."""
        assert self._folder is not None
        return Path(self._folder.name)

    def _show(self) -> None:
        self.metrics.revision.set(self.served.revision)
        self.metrics.items.set(self.served.items)

    async def start(self) -> None:
        """Begin to answer."""
        own = self.settings
        self._folder = tempfile.TemporaryDirectory(prefix="cart-serve-")
        self.batcher = Batcher(
            self._search, self.metrics, own.max_batch, own.batch_wait_ms / 1000, own.queue, own.timeout
        )
        self.batcher.pace = self._pace
        self._tasks = [asyncio.create_task(self.batcher.run())]
        if own.poll:
            self._tasks.append(asyncio.create_task(self._watch()))
        self.metrics.ready.set(1)

    async def stop(self) -> None:
        """End; nothing is waiting any more."""
        self.metrics.ready.set(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._files.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.batcher.close)
        if self._folder is not None:
            self._folder.cleanup()

    def end(self) -> None:
        """Say from now on that the service is not ready."""
        self.ending = True
        self.metrics.ready.set(0)

    async def search(self, asked: Asked) -> Answer:
        """Search together with other requests.

        Raises:
            Refusal: there is no room in the queue, no answer in time, or the request is wrong.
        """

        def release() -> None:
            if asked.upload is not None:
                Path(asked.upload).unlink(missing_ok=True)

        if asked.upload is not None:
            try:
                asked = await self._with_embedding(asked)
            except BaseException:
                release()
                raise
        answer: Answer = await self.batcher.submit(Job(asked, len(asked.queries), release))
        return answer

    async def _with_embedding(self, asked: Asked) -> Asked:
        """Embed an uploaded file in a thread of its own.

        Raises:
            Refusal: the queue or that of files is full, or the file cannot be read in time.
        """
        self.batcher.refuse_overload(len(asked.queries))
        if self._reading >= MOST_FILES:
            self.metrics.refusals.labels("overload").inc()
            raise Refusal(429, "media", f"{self._reading} files wait already", "try again later", 1)
        seconds = self.settings.timeout
        self._reading += 1
        try:
            work = partial(with_embedding, self.served, asked, READING * seconds)
            return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._files, work), seconds)
        except asyncio.TimeoutError:  # of Python 3.10, too
            self.metrics.refusals.labels("timeout").inc()
            raise Refusal(503, "media", f"not read in {seconds:g} s", "send a smaller file, or try later", 1) from None
        finally:
            self._reading -= 1

    def _search(self, batch: Any) -> Any:
        return search(self.served, batch)

    async def _watch(self) -> None:
        """Take over what changes; until the task is cancelled."""
        seen, tried = self._stamps, 0.0
        while True:
            await asyncio.sleep(self.settings.poll)
            try:
                found = await asyncio.to_thread(loading.stamps_of, self.settings)
                settled, seen = found == seen, found  # what is being copied changes from look to look
                if found == self._stamps or not settled:
                    continue
                if found == self._refused and time.monotonic() - tried < RETRY:
                    continue
                tried = time.monotonic()
                await self._take_over(found)
            except asyncio.CancelledError:
                raise
            except Exception:
                logger.exception("the watch over data-bin and checkpoint failed once; it goes on")

    async def _take_over(self, found: loading.Stamps) -> None:
        """Open a new state aside and let it answer from the next batch on."""
        began = time.monotonic()
        try:
            new = await asyncio.to_thread(self._open, found.checkpoint != self._stamps.checkpoint)
        except Exception as error:
            self.metrics.damaged.inc()
            self._refused = found
            said = " ".join(str(error).split()) or type(error).__name__
            logger.warning("refused the new state, the old one (revision %d) goes on: %s", self.served.revision, said)
            return
        self._stamps, self._refused = found, None
        if new is None:
            return
        self.served = new
        self.metrics.swaps.inc()
        self._show()
        seconds = time.monotonic() - began
        logger.info("now answering from revision %d, %d items (%.1f s)", new.revision, new.items, seconds)
        await self.batcher.between(loading.give_back_memory)

    def _open(self, checkpoint: bool) -> Served | None:
        """Open and warm what has changed; None if nothing has."""
        new = loading.renew(self.settings, self.served, checkpoint)
        if new is not None:
            if self._renewed:
                self._wait_for_files(new)
            new.warm()
            self._renewed = is_renewed(new.models, new.data)
        return new

    def _wait_for_files(self, new: Served) -> None:
        """Wait while an update with ``--path`` writes the files of searches; to compute them beside it takes longer."""
        folder = Path(self.settings.data) / STORED
        seen, end = _names_in(folder), time.monotonic() + PATIENCE
        while not is_renewed(new.models, new.data) and time.monotonic() < end:
            time.sleep(self.settings.poll)
            found = _names_in(folder)
            if found != seen:  # it is at work
                seen, end = found, time.monotonic() + MORE_PATIENCE


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()
