"""Child processes that do not outlive their test, however it ends."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")


@contextlib.contextmanager
def forked(action: Callable[..., object], *arguments: object) -> Iterator[BaseProcess]:
    """A forked process that runs the action; it is killed at the end of the block."""
    process = multiprocessing.get_context("fork").Process(target=action, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def started(command: Sequence[object], **options: Any) -> Iterator[subprocess.Popen]:
    """A command; it and the processes that it started are killed at the end of the block."""
    with subprocess.Popen([str(part) for part in command], start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
