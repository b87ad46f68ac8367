"""Batches of grpcio end, and are freed, however the calls do that they are of."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
from itertools import pairwise

import grpc
import pytest
from grpc._cython import cygrpc

from samplerd_server.transport.grpcio import batches

CALLERS = 20
CALLS = 2_000
"""In a round."""
ROUNDS = 5
MOST_BYTES = 100
"""Half of what grpcio alone loses of each of these calls; of the rounds the least counts, which noise only lowers."""


class Heap(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple((f"field_{at}", ctypes.c_size_t) for at in range(10))


def used_bytes() -> int:
    """What is allocated and not freed in this process, in bytes: `hblkhd` and `uordblks`."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Heap
    gc.collect()
    heap = mallinfo()
    return heap.field_4 + heap.field_7


class Endless(grpc.GenericRpcHandler):
    """Writes until it is cancelled; tells what it was that ended it."""

    def __init__(self) -> None:
        self.ends: list[type[BaseException]] = []

    def service(self, _details):
        async def write(_request, context):
            try:
                while True:
                    await context.write(bytes(3_000))
            except BaseException as error:
                self.ends.append(type(error))
                raise

        return grpc.unary_stream_rpc_method_handler(write)


@pytest.fixture
def installed(monkeypatch):
    """grpcio runs batches in our way until the test has ended."""
    monkeypatch.setattr(cygrpc, "execute_batch", batches.begin)
    batches.install()


async def serve(endless, rounds, calls):
    """Cancel calls after two messages of each, several at a time; give what is allocated after each round."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((endless,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    seen = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

        async def cancel_some():
            for _ in range(calls // CALLERS):
                call = channel.unary_stream("/any/Call")(b"")
                await call.read()
                await call.read()
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await call.code()

        for number in range(rounds):
            await asyncio.gather(*(cancel_some() for _ in range(CALLERS)))
            async with asyncio.timeout(30):
                while len(endless.ends) < (number + 1) * calls:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            seen.append(used_bytes())
    await server.stop(0)
    return seen


async def test_a_cancelled_call_costs_no_memory(installed):
    seen = await serve(Endless(), ROUNDS + 1, CALLS)
    grown = [(after - before) / CALLS for before, after in pairwise(seen)]
    assert min(grown) < MOST_BYTES


async def test_a_write_to_a_client_that_has_gone_ends_its_handler(installed):
    endless = Endless()
    await serve(endless, 1, 100)
    assert len(endless.ends) == 100
    assert set(endless.ends) <= {asyncio.CancelledError, cygrpc.ExecuteBatchError}
