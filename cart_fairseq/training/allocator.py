"""Memory that a CPU step frees stays at hand for the next.

glibc gives every block of more than 32 MiB back to the system, so that a training step spends up to a third of its time
on getting the same pages again, zeroed. What is kept is taken again after the first few steps; until then small blocks may
land between large ones, so that memory peaks a few blocks higher.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed blocks; returns whether it did.

    It does not on other systems, nor where the user has set a threshold by environment variable.
    """
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"}
    if not sys.platform.startswith("linux") or chosen & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 1 << 30) and mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1))
