"""The C library's allocator: what is freed stays, so that it need not be faulted in again."""

import subprocess
import sys

CHURN = """
import ctypes, resource, sys
from samplerd_server.process.memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def churn():
    blocks = [libc.malloc(1 << 19) for _ in range(16)]
    for block in blocks:
        ctypes.memset(block, 1, 1 << 19)
    for block in blocks:
        libc.free(block)

if sys.argv[1] == "keep":
    assert keep_freed_memory()
churn()
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Count the page faults of 20 times 16 blocks of 512 KiB, in a process of its own."""
    run = subprocess.run([sys.executable, "-c", CHURN, how], capture_output=True, text=True, check=True, timeout=60)
    return int(run.stdout)


def test_freed_memory_is_not_faulted_in_again():
    assert faults("keep") < 200 < 10_000 < faults("default")
