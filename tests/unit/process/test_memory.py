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


THREADS = """
import ctypes, sys, threading
from samplerd_server.process.memory import share_one_heap

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]

if sys.argv[1] == "one":
    assert share_one_heap()
all_run = threading.Barrier(4)

def allocate():
    all_run.wait()
    libc.malloc(100_000)
    all_run.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, libc.fdopen(1, b"w"))
libc.fflush(None)
"""


@pytest.mark.parametrize(("how", "heaps"), [("one", 1), ("default", 5)])
def test_threads_share_one_heap(how, heaps):
    command = [sys.executable, "-c", THREADS, how]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.count("<heap nr=") == heaps
