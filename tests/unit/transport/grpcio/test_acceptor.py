"""Calls that grpcio has handed over: they begin in turns, and none is left without an answer."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

from samplerd_server.transport.grpcio import acceptor as acceptor_module
from samplerd_server.transport.grpcio import lines as module
from samplerd_server.transport.grpcio import resets as resets_module
from samplerd_server.transport.grpcio.acceptor import make_server
from samplerd_server.transport.grpcio.arrivals import Arrivals, server_ids
from samplerd_server.transport.grpcio.lines import Lines
from samplerd_server.transport.grpcio.resets import Resets
from samplerd_server.transport.rpc.arrival import note_begin

CALLS = 20
PLACES = module._PLACES


class Answering(grpc.GenericRpcHandler):
    """Answers every method once its message has come."""

    def service(self, _details):
        async def answer(request, _context):
            note_begin()
            return request

        return grpc.unary_unary_rpc_method_handler(answer)


class Served:
    """A server, a polite client that calls once, and a greedy one whose messages do not come."""

    async def start(self, address):
        self.lines = Lines(asyncio.get_running_loop(), lambda: 100.0)
        others = server_ids()
        self.now = 100.0
        self.refused = []
        resets = Resets(lambda: self.now)
        self.server, self.acceptor = make_server((), self.lines, resets, lambda *told: self.refused.append(told), 1_000)
        [number] = server_ids() - others
        self.arrivals = self.acceptor.arrivals = Arrivals(number)
        self.server.add_generic_rpc_handlers((self.arrivals, Answering()))
        port = self.server.add_insecure_port(address)
        await self.server.start()
        self.address = address if address.startswith("unix") else f"127.0.0.1:{port}"
        self.stop_sending = threading.Event()
        self.channels = [self.connect(name) for name in ("polite", "greedy")]

    def connect(self, name):
        channel = grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])
        metadata = [("x-samplerd-client", name)]
        self.calls = {
            **getattr(self, "calls", {}),
            name: lambda: channel.unary_unary("/any/Call").future(b"x", metadata=metadata, wait_for_ready=True),
            f"half {name}": lambda: channel.stream_unary("/any/Call").future(self.never(), metadata=metadata),
        }
        return channel

    def never(self):
        """Send no message until the end."""
        self.stop_sending.wait()
        yield from ()

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def crowd(self):
        """Let the polite client call, and the greedy one fill its places and its line."""
        assert await asyncio.to_thread(self.calls["polite"]().result, 30) == b"x"
        calls = [self.calls["half greedy"]() for _ in range(CALLS)]
        await self.until(lambda: (self.lines.waiting, self.lines._begun) == (CALLS - PLACES, PLACES))
        return calls

    async def stop(self):
        self.stop_sending.set()
        for channel in self.channels:
            await asyncio.to_thread(channel.close)
        await self.server.stop(0)


@pytest.fixture(params=["tcp", "unix"])
async def served(request, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_STALE_S", 3600.0)
    own = Served()
    await own.start("127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path / 'socket'}")
    yield own
    await own.stop()
    own.lines.clear()


async def test_grpcio_takes_its_calls_from_the_lines(served):
    assert served.acceptor.is_used


async def test_a_polite_call_begins_while_those_of_a_greedy_client_wait(served):
    calls = await served.crowd()
    assert await asyncio.to_thread(served.calls["polite"]().result, 30) == b"x"
    assert served.lines.waiting == CALLS - PLACES
    assert served.arrivals.taken == CALLS + 2
    assert not any(call.done() for call in calls)


async def test_calls_that_are_cancelled_while_they_wait_give_all_places_back(served):
    calls = await served.crowd()
    for call in calls:
        call.cancel()
    await served.until(lambda: not served.lines._lines)
    await served.until(lambda: served.arrivals.unread == CALLS)
    assert served.lines.waiting == 0


async def test_calls_that_will_never_begin_are_answered(served):
    calls = await served.crowd()
    served.acceptor.refuse_all(served.lines.clear())
    await served.until(lambda: sum(call.done() for call in calls) == CALLS - PLACES)
    assert {call.code() for call in calls if call.done()} == {grpc.StatusCode.UNAVAILABLE}
    assert served.arrivals.dropped == CALLS - PLACES
    assert [error.code.name for error, _ in served.refused] == ["UNAVAILABLE"] * (CALLS - PLACES)


async def test_a_server_with_waiting_calls_stops(served):
    calls = await served.crowd()
    stopping = asyncio.ensure_future(served.server.stop(30))
    await served.until(lambda: not served.acceptor.is_running())
    served.acceptor.refuse_all(served.lines.clear())
    for call in calls:
        call.cancel()  # those that have begun
    await asyncio.wait_for(stopping, 25)


@pytest.mark.parametrize("served", ["tcp"], indirect=True)
async def test_a_connection_that_resets_its_calls_is_refused_for_the_rest_of_a_second(served, monkeypatch):
    monkeypatch.setattr(resets_module, "_MOST", CALLS)
    calls = await served.crowd()
    for call in calls:
        call.cancel()
    await served.until(lambda: served.arrivals.unread == CALLS)
    refused = served.calls["greedy"]()
    assert await asyncio.to_thread(refused.exception, 30)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(refused.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
    [(error, peer)] = served.refused
    assert (error.reason, peer.partition(":")[0]) == ("resets", "ipv4")
    assert await asyncio.to_thread(served.calls["polite"]().result, 30) == b"x"
    served.now += 1.0
    assert await asyncio.to_thread(served.calls["greedy"]().result, 30) == b"x"


@pytest.mark.parametrize("served", ["tcp"], indirect=True)
async def test_a_connection_has_no_more_calls_waiting_than_it_may_have_open_twice(served):
    served.acceptor.most_open = CALLS // 4
    assert await asyncio.to_thread(served.calls["polite"]().result, 30) == b"x"
    calls = [served.calls["half greedy"]() for _ in range(CALLS)]
    allowed = PLACES + CALLS // 2
    await served.until(lambda: sum(call.done() for call in calls) == CALLS - allowed)
    assert served.lines.waiting == CALLS // 2
    assert {call.code() for call in calls if call.done()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert {error.reason for error, _ in served.refused} == {"resets"}
    assert await asyncio.to_thread(served.calls["polite"]().result, 30) == b"x"


async def test_all_connections_together_have_a_bound_of_calls_that_wait(served, monkeypatch):
    monkeypatch.setattr(acceptor_module, "_MOST_WAITING", CALLS - PLACES)
    await served.crowd()
    refused = served.calls["polite"]()
    assert await asyncio.to_thread(refused.exception, 30)
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [error.reason for error, _ in served.refused] == ["waiting_calls"]
