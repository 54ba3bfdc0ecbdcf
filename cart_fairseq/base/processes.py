"""How commands end: in one line, whatever happened. And child processes that do not outlive their parent."""

import atexit
import ctypes
import dis
import errno
import gc
import os
import platform
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

from cart_fairseq.base.disk import NO_ROOM
from cart_fairseq.base.reading import printable

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
PACKAGES = ("cart_fairseq", "preprocess", "__main__")
EXAMPLES = Path(__file__).parents[2] / "examples"
RAISE = dis.opmap["RAISE_VARARGS"]
CHECK, RIGHTS = "check the path", "give your account the right to read or write there, or choose another place"
REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), RIGHTS),
    **dict.fromkeys(NO_ROOM, "make room, then give the same command again"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def end_with_parent(parent: int | None = None) -> None:
    """Make the system terminate this process when its parent dies, even if killed (Linux only).

    Args:
        parent: the parent's id, for a process that may find it dead already.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
        if parent is not None and os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)


def run_script(main: Callable[[], None]) -> None:
    """Run a script's ``main``; an error becomes one line on stderr.

    Exit codes: 2 for what is expected, such as bad input or a full disk; 1 for an error that the program does not know,
    whose traceback is in a log that the line names; 130 after Ctrl-C.
    """
    # without this, a last garbage collection over torch's and fairseq's objects takes most of a second
    atexit.register(gc.freeze)
    try:
        main()
    except (Exception, KeyboardInterrupt) as error:
        end_in_one_line(type(error), error, error.__traceback__)


def end_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End the program as :func:`run_script` does; has the form of ``sys.excepthook``, for programs of others."""
    if isinstance(error, KeyboardInterrupt):
        end("interrupted: stopped before the end; give the same command again to go on", INTERRUPTED)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains once more when it flushes the output
        end("error: standard output was closed before the end; save it to a file to have all of it", 2)
    if not isinstance(error, Exception):
        sys.__excepthook__(kind, error, trace)
    elif is_expected(error):
        end(f"error: {_message(error)}")
    else:
        end(f"error: {_unexpected(error)}", 1)


def is_expected(error: Exception) -> bool:
    """Whether an error is one that its message explains: a ValueError or OSError of ours, or one of the system with the name of a file.

    Any other counts only if a `raise` statement of this project raised it. One that a library or Python itself raised
    names no file.
    """
    if isinstance(error, OSError) and (error.filename is not None or error.errno in NO_ROOM):
        return True
    if not isinstance(error, ValueError | OSError):
        return False
    frame = _raising(error)
    return raised_in(error, PACKAGES) or (frame is not None and Path(frame.f_code.co_filename).is_relative_to(EXAMPLES))


def raised_in(error: BaseException, packages: Sequence[str]) -> bool:
    """Whether a `raise` or `assert` statement of some packages raised an error, not Python or another library."""
    frame = _raising(error)
    return frame is not None and str(frame.f_globals.get("__name__")).split(".")[0] in packages


def _raising(error: BaseException) -> FrameType | None:
    """The frame whose `raise` or `assert` statement raised an error; None if Python itself did."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code.co_code[trace.tb_lasti] != RAISE:
        return None
    return trace.tb_frame


def _message(error: Exception) -> str:
    """The message of an expected error; for one of the system: the file, the reason and a remedy."""
    if isinstance(error, OSError) and error.strerror is not None:
        name = "" if error.filename is None else f"{error.filename}: "
        return f"{name}{error.strerror}; {REMEDIES.get(error.errno or 0, CHECK)}"
    return str(error)


def _unexpected(error: Exception) -> str:
    """Say what happened and where, and write the traceback to a log."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    said = (str(error).strip().splitlines() or [""])[0][:200]
    what = f"{type(error).__name__}{': ' if said else ''}{said} ({Path(where.filename).name}, line {where.lineno})"
    details = [shlex.join(sys.orig_argv), f"Python {platform.python_version()}, {platform.platform()}", ""]
    text = printable("\n".join([*details, *traceback.format_exception(error)]))
    try:
        file, log = tempfile.mkstemp(prefix="cart-fairseq-", suffix=".log")
        with open(file, "w", encoding="utf-8") as out:
            out.write(text)
    except OSError:  # the disk may be full
        return f"unexpected {what}; no log of it could be written: set TMPDIR to a folder with room and try again"
    return f"unexpected {what}; please report it with the log {log}"


def end(line: str, status: int = 2) -> NoReturn:
    """End the program with a line on stderr."""
    print(printable(" ".join(line.split())), file=sys.stderr)
    raise SystemExit(status)
