"""What a training frees stays with the process; tried in processes of their own, whose allocator is as it was."""

import ctypes
import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

FAULTS = """
import resource, sys, torch
from lewm_hf.training.freed_memory import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def fill():
    torch.full((64 * 2**20,), 7, dtype=torch.uint8)
for _ in range(3):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc's allocator"
)
def test_large_tensors_are_made_of_memory_that_was_freed():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    # Of small or of large pages, eight tensors are touched for the first time, or nothing is.
    assert 10 * faults("kept") < faults("given back")
