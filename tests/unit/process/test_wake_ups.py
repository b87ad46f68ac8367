"""The event loop takes all wake-ups of grpcio in one turn, and leaves other sockets alone."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import grpc
import pytest

from samplerd_server.process import wake_ups
from samplerd_server.process.wake_ups import WakeUps, reading_wake_ups_at_once

uvloop = pytest.importorskip("uvloop")
PATH = "/test/Echo"


class PollerCompletionQueue:
    """What waits as grpcio's class of this name does."""

    def __init__(self, ours: socket.socket) -> None:
        self._ours = ours
        self.read: list[bytes] = []

    def handle(self, _loop: object) -> None:
        self.read.append(self._ours.recv(1))


class Other(PollerCompletionQueue):
    """Somebody else."""


@pytest.fixture(params=[uvloop.Loop, asyncio.SelectorEventLoop])
def loop(request):
    own = reading_wake_ups_at_once(request.param)()
    yield own
    own.close()


@pytest.mark.parametrize(("kind", "read"), [(PollerCompletionQueue, [b"11111"]), (Other, [b"1"] * 5)])
def test_the_bytes_of_grpcio_are_read_at_once_and_others_one_by_one(loop, kind, read):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        waits = kind(ours)
        loop.add_reader(ours, partial(waits.handle, loop))
        for _ in range(5):
            theirs.send(b"1")

        async def until_read() -> None:
            async with asyncio.timeout(10):
                while sum(map(len, waits.read)) < 5:  # noqa: ASYNC110  # turns of the loop, not time
                    await asyncio.sleep(0)

        loop.run_until_complete(until_read())
        loop.remove_reader(ours)
        assert waits.read == read


def test_grpcio_waits_in_the_way_that_is_known_here(loop, monkeypatch):
    """A later grpcio for which this fails needs another `wake_ups`, or none."""
    known: list[bool] = []
    is_grpcio = wake_ups._is_grpcio

    def note(callback: object) -> bool:
        known.append(is_grpcio(callback))
        return known[-1]

    monkeypatch.setattr(wake_ups, "_is_grpcio", note)
    reads: list[int] = []
    recv = WakeUps.recv

    def count(own: WakeUps, size: int, flags: int = 0, /) -> bytes:
        reads.append(size)
        return recv(own, size, flags)

    monkeypatch.setattr(WakeUps, "recv", count)

    async def echo(request: bytes, _context: object) -> bytes:
        return request

    async def serve() -> list[bytes]:
        server = grpc.aio.server()
        methods = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(PATH)
            replies = await asyncio.gather(*(call(b"%d" % number, timeout=10) for number in range(50)))
        await server.stop(None)
        return replies

    replies = loop.run_until_complete(serve())
    assert replies == [b"%d" % number for number in range(50)]
    assert known == [True]
    assert set(reads) == {1}
