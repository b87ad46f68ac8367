"""The C library's allocator: what is freed stays, so that it need not be faulted in again."""

import subprocess
import sys

import pytest

CHURN = """
import ctypes, resource, sys
from samplerd_server.process.memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

size, count = int(sys.argv[2]), int(sys.argv[3])

def churn():
    blocks = [libc.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks:
        libc.free(block)

if sys.argv[1] == "keep":
    assert keep_freed_memory()
churn()
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, size: int, count: int) -> int:
    """Count the page faults of eight times so many blocks of so many bytes, in a process of its own."""
    command = [sys.executable, "-c", CHURN, how, str(size), str(count)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return int(run.stdout)


@pytest.mark.parametrize(("size", "count"), [(1 << 19, 16), (63 << 20, 1)], ids=["rows", "the largest messages"])
def test_freed_memory_is_not_faulted_in_again(size, count):
    assert faults("keep", size, count) < 200 < 10_000 < faults("default", size, count)
