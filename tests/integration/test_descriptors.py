"""A server without file descriptors to spare: those who are connected are served, others wait, and the log says so."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon
from tests.support.processes import descendants
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASK = pb.SampleRequest(id=1, tensor=tensor(one_hot(1, 100, 7)))
SPARE = 4


@contextmanager
def few_descriptors(daemon: Daemon) -> Iterator[None]:
    """Let each process of a server open a few files more than it has open."""
    before = {}
    for pid in (daemon.process.pid, *descendants(daemon.process.pid)):
        highest = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
        before[pid] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + SPARE, before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


async def test_a_server_without_descriptors_serves_whom_it_has_and_recovers(daemon):
    host, _, port = daemon.address.rpartition(":")
    async with connect(daemon.address) as channel:
        assert list((await stub(channel).Sample(ASK)).samples) == [7]
        with few_descriptors(daemon):
            idle = [socket.create_connection((host, int(port))) for _ in range(64)]
            said = await asyncio.to_thread(daemon.wait_event, "no file descriptor is left, so new connections wait")
            assert said["level"] == "warning"
            assert list((await stub(channel).Sample(ASK, timeout=WAIT_S)).samples) == [7]
            for own in idle:
                own.close()
            await asyncio.to_thread(daemon.wait_event, "file descriptors are left again")
            async with connect(daemon.address) as other:
                assert list((await stub(other).Sample(ASK, timeout=WAIT_S, wait_for_ready=True)).samples) == [7]
    assert (await asyncio.to_thread(daemon.metrics))["process_open_fds"] > 0
