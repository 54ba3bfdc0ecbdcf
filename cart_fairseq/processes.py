"""Child processes that do not outlive their parent."""

import ctypes
import signal
import sys


def end_with_parent() -> None:
    """In a child, on Linux: be terminated when the parent dies, however it dies, so that no orphan keeps training."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
