"""Clients of several workers: connections of their own until every worker holds some."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from samplerd.v1 import sampler_pb2 as pb
from tests.support.daemon import Daemon
from tests.support.processes import children as children_of
from tests.support.processes import connections, descendants
from tests.support.served import connect, stub

WORKERS = 2
LEAST = 16
"""Connections; that all of them go to one of two workers has a chance of 2^-15."""
MOST = 64
"""Connections; that the kernel gives so many to one of two workers has a chance of 2^-63."""


def children(daemon: Daemon) -> list[int]:
    """The workers themselves."""
    return children_of(daemon.process.pid)


def worker_processes(daemon: Daemon) -> list[list[int]]:
    """The processes of each worker."""
    return [[pid, *descendants(pid)] for pid in children(daemon)]


class Crowd:
    """Stubs, each with a connection of its own, of which every worker has got some."""

    def __init__(self, daemon: Daemon, processes_of: Callable[[Daemon], list[list[int]]] = worker_processes) -> None:
        """Take the server, and what gives the processes of each of its workers."""
        self._daemon = daemon
        self._processes_of = processes_of
        self._stack = AsyncExitStack()
        self.stubs: list[Any] = []

    async def __aenter__(self) -> Crowd:
        port = int(self._daemon.address.rpartition(":")[2])
        workers = self._processes_of(self._daemon)
        # Some of the test before may be closing still, so what is counted alone would not do.
        while len(self.stubs) < LEAST or not all(connections(pids, port) for pids in workers):
            assert len(self.stubs) < MOST, "one worker gets no connection"
            own = stub(await self._stack.enter_async_context(connect(self._daemon.address)))
            await own.GetServerInfo(pb.GetServerInfoRequest())
            self.stubs.append(own)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def all(self, call: Any) -> list[Any]:
        """What a call of each stub gave."""
        return await asyncio.gather(*(call(own) for own in self.stubs))
