"""The wait of calls inside grpcio: a held event loop leaves calls there for a known time, which must be seen."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import pytest

from samplerd_server.transport.grpcio.arrivals import Arrivals, ArrivalSampler, server_ids
from samplerd_server.transport.rpc.arrival import ARRIVED

CALLS = 20
HELD_S = 0.6
AFTER_S = 0.2
"""Seconds from the begin of the hold until the calls are made."""


class Recording(grpc.GenericRpcHandler):
    """Answers every method, and keeps how long each call has waited."""

    def __init__(self):
        self.waits = []
        self.begins = []
        self.pause_s = 0.0

    def service(self, _details):
        async def answer(_request, _context):
            now = time.monotonic()
            self.waits.append(now - ARRIVED.get().time)
            self.begins.append(now)
            await asyncio.sleep(self.pause_s)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


class Served:
    """A server with a sampler, and a client on threads of its own."""

    async def start(self):
        others = server_ids()
        self.server = grpc.aio.server()
        [number] = server_ids() - others
        self.arrivals = Arrivals(number)
        self.recording = Recording()
        self.server.add_generic_rpc_handlers((self.arrivals, self.recording))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.sampler = ArrivalSampler()
        self.sampler.start([self.arrivals])
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.call = self.channel.unary_unary("/any/Call")
        await self.wait([self.call.future(b"", wait_for_ready=True)])

    async def wait(self, futures):
        for future in futures:
            await asyncio.to_thread(future.result, 30)

    async def stop(self):
        await asyncio.to_thread(self.channel.close)
        self.sampler.stop()
        await self.server.stop(0)


@pytest.fixture
async def served():
    own = Served()
    await own.start()
    yield own
    await own.stop()


async def held(served):
    """Hold the event loop while calls are made; returns them, when they were made, and how many waited: two counts."""
    made, seen = [], []

    def make():
        time.sleep(AFTER_S)
        seen.append(time.monotonic())
        made.extend(served.call.future(b"") for _ in range(CALLS))
        time.sleep((HELD_S - AFTER_S) / 2)
        seen.append(served.sampler.waiting)
        seen.append(served.sampler.waited_lately)

    thread = threading.Thread(target=make)
    thread.start()
    time.sleep(HELD_S)  # noqa: ASYNC251  # holds the loop
    await asyncio.to_thread(thread.join)
    return made, *seen


async def test_calls_that_come_while_the_loop_is_held_have_waited_as_long(served):
    served.recording.waits.clear()
    # A call is open meanwhile, as it is when a handler holds the loop.
    served.recording.pause_s = 0.05
    open_call = served.call.future(b"")
    await asyncio.sleep(0.02)
    served.recording.pause_s = 0.0
    calls, made, waiting, waited_lately = await held(served)
    await served.wait([open_call, *calls])
    waits, begins = served.recording.waits[-CALLS:], served.recording.begins[-CALLS:]
    waited = sum(begin - made for begin in begins) / CALLS
    assert waited > (HELD_S - AFTER_S) / 2
    assert waited * 0.75 < sum(waits) / CALLS < waited * 1.5
    # grpcio has handed one or two of them to Python already.
    assert CALLS / 2 <= waiting <= CALLS
    assert CALLS / 2 <= waited_lately <= CALLS
    assert served.sampler.waiting == served.sampler.waited_lately == 0


async def test_a_call_to_an_idle_server_has_not_waited(served):
    await asyncio.sleep(0.6)
    served.recording.waits.clear()
    for _ in range(3):
        await served.wait([served.call.future(b"")])
    assert all(0.0 <= wait < 0.1 for wait in served.recording.waits)


async def test_calls_that_were_cancelled_before_they_began_wait_no_longer(served):
    made = []

    def make():
        made.extend(served.call.future(b"") for _ in range(CALLS))
        time.sleep(0.1)
        for call in made:
            call.cancel()

    thread = threading.Thread(target=make)
    thread.start()
    time.sleep(0.3)  # noqa: ASYNC251  # holds the loop
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0.3)
    assert served.sampler.waiting == served.sampler.waited_lately == 0
    served.recording.waits.clear()
    await served.wait([served.call.future(b"")])
    assert served.recording.waits[-1] < 0.1


async def test_after_the_end_of_the_server_nothing_waits(served):
    served.sampler.stop()
    assert served.sampler.waiting == 0
