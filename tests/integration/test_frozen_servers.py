"""A frozen server keeps its connections and says nothing: calls leave it, and idle streams stay elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from samplerd_client import SamplerClient, SampleStream
from samplerd_client.errors import ConnectionLostError
from tests.support.balanced import ClientLoad
from tests.support.daemon import Daemon
from tests.support.processes import descendants
from tests.support.requests import one_hot
from tests.support.served import WAIT_S

pytestmark = pytest.mark.asyncio(loop_scope="session")

PING_TIMEOUT_S = 4.0
"""A ping every two seconds, and a bound that a busy machine keeps."""
ROW = one_hot(1, 100, 7)


@contextlib.contextmanager
def frozen(daemon: Daemon) -> Iterator[None]:
    """Stop all processes of a server for a while."""
    pids = [daemon.process.pid, *descendants(daemon.process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def stream_of(stack: contextlib.AsyncExitStack, server: Daemon) -> SampleStream:
    # With several connections they are the client's own.
    client = SamplerClient(server.address, ping_timeout_s=PING_TIMEOUT_S, connections=2)
    return (await stack.enter_async_context(client)).stream()


@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
async def test_calls_leave_a_frozen_server_and_idle_streams_stay_on_the_others(transport):
    # Longer than the time without an answer, so that the watch over stalls does not end the server when it goes on.
    flags = ("--transport", transport, "--threads", "1", "--stall-limit", "120s")
    async with contextlib.AsyncExitStack() as stack:
        with ThreadPoolExecutor(2) as starters:
            silent, left = starters.map(lambda _: Daemon(*flags).__enter__(), range(2))
        stack.callback(left.__exit__)
        stack.callback(silent.__exit__)
        idle, asked = [await stack.enter_async_context(await stream_of(stack, own)) for own in (left, silent)]
        for stream in (idle, asked):
            assert (await stream.sample(ROW)).samples.tolist() == [[7]]
        async with asyncio.timeout(WAIT_S):  # as the client's own timeout; gRPC gives a ping twice as long
            load = ClientLoad([silent.address, left.address], callers=8, ping_timeout_s=PING_TIMEOUT_S)
            async with load:
                with frozen(silent):
                    with pytest.raises(ConnectionLostError, match="ping"):
                        await asked.sample(ROW)
                    await load.more(100)
                await load.more(100)
        assert not load.lost, load.lost
        assert (await idle.sample(ROW)).samples.tolist() == [[7]]
