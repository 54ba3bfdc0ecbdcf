"""Child processes that do not outlive their test, however it ends."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import Any
from unittest import mock

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
def stopped_at(owner: object, name: str, action: Callable[..., object], *arguments: object) -> Iterator[Callable]:
    """A forked process that runs the action as far as its first call of the function `name` of `owner`.

    Yields:
        A function that lets the process go on, waits for its end and returns its exit code.
    """
    context = multiprocessing.get_context("fork")
    arrived, go_on = context.Event(), context.Event()
    function = getattr(owner, name)

    def waiting(*args: object, **options: object) -> object:
        arrived.set()
        go_on.wait()
        return function(*args, **options)

    with mock.patch.object(owner, name, waiting), forked(action, *arguments) as process:
        assert arrived.wait(60), f"the process never called {name}"

        def finish() -> int | None:
            go_on.set()
            process.join(60)
            return process.exitcode

        yield finish


@contextlib.contextmanager
def started(command: Sequence[object], **options: Any) -> Iterator[subprocess.Popen]:
    """A command; it and the processes that it started are killed at the end of the block."""
    with subprocess.Popen([str(part) for part in command], start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
