"""cart_fairseq.base.progress: bars that no other process can block, and lines where output is no terminal."""

import contextlib
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import tqdm  # noqa: TID251
import tqdm.auto  # noqa: TID251
from processes import forked, needs_fork

from cart_fairseq.base import progress
from cart_fairseq.base.progress import Progress, track

WAIT = 20  # seconds after which a bar counts as blocked; it takes milliseconds


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock: its one element is the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def draw_ours() -> None:
    with contextlib.redirect_stderr(Terminal()) as shown:
        assert list(track(range(3), "drawing", "items")) == [0, 1, 2]
    assert "drawing: 100%" in shown.getvalue()
    assert "3/3" in shown.getvalue()


def draw_another() -> None:
    """A bar as another library draws it, with a class of its own derived from tqdm."""
    with tqdm.auto.tqdm(total=3, file=io.StringIO()) as other:
        other.update(3)


def draw() -> None:
    draw_another()
    draw_ours()


def exit_code(action: Callable[[], None]) -> int | None:
    """How a forked child that runs the action ends; None if not in time."""
    with forked(action) as child:
        child.join(WAIT)
        return child.exitcode


def die_while_drawing() -> None:
    tqdm.tqdm.get_lock().acquire()
    tqdm.auto.tqdm.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def in_time(action: Callable[[], None]) -> bool:
    """Whether the action ends in this process; a thread runs it, as a lock of the main thread would let that one in."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(WAIT)
    return not thread.is_alive()


@pytest.fixture
def default_locks() -> Iterator[None]:
    """tqdm as it is before anybody draws with it: its lock will be the one that processes share."""
    kinds = tqdm.tqdm, tqdm.auto.tqdm
    for kind in kinds:
        if "_lock" in vars(kind):
            del kind._lock
    progress.tqdm_class.cache_clear()
    yield
    for kind in kinds:
        kind.set_lock(threading.RLock())


@needs_fork
@pytest.mark.parametrize("draw_first", [draw_ours, draw_another])
def test_a_child_killed_while_it_draws_blocks_neither_its_parent_nor_a_later_child(default_locks, draw_first):
    draw_first()
    assert exit_code(die_while_drawing) == -signal.SIGKILL
    assert in_time(draw)
    assert exit_code(draw) == 0


@needs_fork
def test_a_child_forked_while_a_thread_draws_can_draw(default_locks):
    draw()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with tqdm.tqdm.get_lock():
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert exit_code(draw) == 0
    finally:
        done.set()
        thread.join()


def test_a_terminal_gets_a_bar():
    draw_ours()


def test_a_log_gets_lines_now_and_then(seconds, capsys):
    with Progress(3600, "embedding", "items") as bar:
        for _ in range(3600):
            seconds[0] += 1
            bar.note("loss 0.5")
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "embedding: 2 of 3,600 items (0%), 1 a second, 59:58 left, loss 0.5"
    assert lines[-1] == "embedding: 3,600 items in 1:00:00"
    assert 20 < len(lines) < 70
    times = [int(line.split()[1].replace(",", "")) for line in lines[:-1]]  # one item a second
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times[:5] == [2, 4, 8, 16, 32]
    assert max(gaps[4:]) <= max(30, 3600 / 20)


def test_a_short_step_prints_nothing(seconds, capsys):
    for _ in track(range(19), "embedding", "items"):
        seconds[0] += 0.1
    assert capsys.readouterr() == ("", "")


def test_what_an_earlier_run_did_counts_but_not_for_the_rate(seconds, capsys):
    with Progress(1000, "embedding", "items", done=900) as bar:
        seconds[0] += 10
        bar.update(1)
    assert capsys.readouterr().err.splitlines()[0] == "embedding: 901 of 1,000 items (90%), 6 a minute, 16:30 left"


def test_the_rate_is_that_since_the_last_line(seconds, capsys):
    with Progress(500, "RQ-VAE", "epochs") as bar:
        for epoch in (300, 310, 320):  # resumed at epoch 300
            seconds[0] += 5
            bar.update(epoch - bar.done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "RQ-VAE: 310 of 500 epochs (62%), 2 a second, 1:35 left"


def test_a_step_foresees_its_time_from_one_unit_before_the_first_batch(seconds, capsys):
    def one() -> None:
        seconds[0] += 3

    with Progress(1000, "embedding", "items", done=100) as bar:
        bar.foresee(one)
        assert capsys.readouterr().err == "embedding: 900 items, at most about 45:00 expected\n"
    with Progress(10, "embedding", "items") as bar:
        bar.foresee(one)  # half a minute
        bar.resume(9)
        bar.foresee(one)  # the last one
    assert capsys.readouterr().err == "embedding: 10 items, at most about 0:30 expected\n"
    with Progress(9, "embedding", "items") as bar:
        bar.foresee(one)
    assert capsys.readouterr().err == ""


def test_a_terminal_needs_no_foresight():
    with contextlib.redirect_stderr(Terminal()) as shown, Progress(1000, "embedding", "items") as bar:
        bar.foresee(lambda: pytest.fail("computed for nothing"))
    assert "expected" not in shown.getvalue()


def test_what_was_resumed_does_not_count_for_the_rate(seconds, capsys):
    with Progress(4000, "RQ-VAE", "updates") as bar:
        seconds[0] += 10  # the start of the training
        bar.resume(3000)
        seconds[0] += 5
        bar.update(100)
    assert capsys.readouterr().err.splitlines()[0] == "RQ-VAE: 3,100 of 4,000 updates (78%), 20 a second, 0:45 left"
    with contextlib.redirect_stderr(Terminal()) as shown, Progress(4000, "RQ-VAE", "updates") as bar:
        bar.resume(3000)
        bar.update(100)
    assert "3100/4000" in shown.getvalue()


def test_a_step_of_unknown_length_says_how_far_it_is(seconds, capsys):
    with Progress(None, "looking for media", "files") as bar:
        seconds[0] += 2
        bar.update(5000)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "looking for media: 5,000 files, 2,500 a second"
    assert last == "looking for media: 5,000 files in 0:02"


def test_a_step_that_fails_does_not_say_that_it_ended(seconds, capsys):
    with contextlib.suppress(OSError), Progress(10, "writing", "items") as bar:
        seconds[0] += 3
        bar.update()
        raise OSError("disk full")
    assert capsys.readouterr().err.splitlines() == ["writing: 1 of 10 items (10%), 20 a minute, 0:27 left"]


def test_importing_it_does_not_import_tqdm():
    code = "import sys, cart_fairseq.base.progress; print('tqdm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
