"""Freed memory is kept where glibc allocates, and left alone where the user decided."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, torch
from cart_fairseq.training.allocator import keep_freed_memory
kept = keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(12 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, *[faults() for _ in range(60)])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told")
@pytest.mark.parametrize("decided", [False, True])
def test_a_block_freed_and_taken_again_costs_no_page_faults(decided):
    environment = {"MALLOC_MMAP_THRESHOLD_": "33554432"} if decided else {}
    done = subprocess.run([sys.executable, "-c", PAGES], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    kept, *faults = done.stdout.split()
    assert kept == str(not decided)
    # threads of torch put small blocks between large ones at first, so it takes some calls until the heap has settled
    assert [int(found) > 1000 for found in faults[-30:]] == [decided] * 30
