"""Child processes that do not outlive their parent."""

import ctypes
import signal
import sys


def end_with_parent() -> None:
    """Make the system terminate this process when its parent dies, even if killed (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
