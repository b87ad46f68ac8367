"""Threads of a server allocate from one heap, so that what one has freed another one can use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samplerd_client import SyncSamplerClient
from tests.support.daemon import Daemon

LOGITS = np.linspace(0, 3, 64, dtype=np.float32)
HEAP_BYTES = 64 << 20
"""Of the address space that the C library sets aside for the heap of a thread, at a multiple of it. What is in use may
be written, and the rest may not."""


def heaps_of_threads(pid: int) -> list[str]:
    """List the mappings of a process that are heaps of threads."""
    lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()]
    ends = {span.partition("-")[0]: int(span.partition("-")[2], 16) for span, mode, *_ in lines if mode == "---p"}
    found = []
    for span, mode, *_ in lines:
        begin, _, end = span.partition("-")
        if mode == "rw-p" and int(begin, 16) % HEAP_BYTES == 0 and ends.get(end) == int(begin, 16) + HEAP_BYTES:
            found.append(span)
    return found


@pytest.mark.parametrize("flags", [(), ("--workers", "2"), ("--doors", "2")], ids=["one", "workers", "doors"])
def test_no_thread_of_a_server_has_a_heap_of_its_own(flags: tuple[str, ...]) -> None:
    with Daemon(*flags) as daemon, SyncSamplerClient(daemon.address, timeout_s=60.0) as client:
        assert client.sample(LOGITS, seed=1).samples.size == 1
        children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
        pids = [daemon.process.pid, *map(int, children)]
        assert len(pids) == {0: 1, 2: 3 if "--workers" in flags else 4}[len(flags)]
        assert {pid: heaps_of_threads(pid) for pid in pids} == {pid: [] for pid in pids}
