"""Two of three servers end, and no call is lost: behind the Envoy of deploy/envoy, and with the client's balancing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.front import Front
from samplerd_client import RetryPolicy, SamplerClient
from tests.support.balanced import ClientLoad
from tests.support.daemon import Daemon
from tests.support.served import WAIT_S

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONE_ATTEMPT = RetryPolicy(max_attempts=1)
NAMES = [f"slate-{number}" for number in range(8)]


def start() -> Daemon:
    return Daemon("--drain-delay", "3s", "--threads", "1").__enter__()


async def test_no_call_is_lost_when_one_server_is_killed_and_another_ends(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        with ThreadPoolExecutor(3) as starters:
            killed, ended, left = starters.map(lambda _: start(), range(3))
        stack.callback(left.__exit__)
        addresses = [daemon.address for daemon in (killed, ended, left)]
        front = await asyncio.to_thread(Front(tmp_path, addresses).__enter__)
        stack.callback(front.__exit__)
        for cluster in ("least_busy", "by_distribution"):
            await asyncio.to_thread(front.wait_healthy, cluster, 3)
        await find_distributions(front.address)

        through_front = await stack.enter_async_context(ClientLoad(front.address, callers=8, retry=ONE_ATTEMPT))
        # Without a proxy, only the client can ask another server what a killed one has read: it may try again.
        direct = await stack.enter_async_context(ClientLoad(addresses, callers=8))
        killed.process.kill()
        await asyncio.to_thread(killed.wait)
        await asyncio.gather(through_front.more(100), direct.more(100))
        ended.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(ended.wait) == 0
        await asyncio.gather(through_front.more(100), direct.more(100))

        await asyncio.to_thread(front.set_endpoints, addresses[2:])
        await asyncio.to_thread(front.wait_healthy, "least_busy", 1)
        await through_front.more(100)
    assert not through_front.lost, through_front.lost
    assert not direct.lost, direct.lost


async def test_no_call_is_lost_when_a_server_falls_silent(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        with ThreadPoolExecutor(2) as starters:
            silent, left = starters.map(lambda _: start(), range(2))
        stack.callback(left.__exit__)
        stack.callback(silent.process.kill)
        front = await asyncio.to_thread(Front(tmp_path, [silent.address, left.address]).__enter__)
        stack.callback(front.__exit__)
        await asyncio.to_thread(front.wait_healthy, "least_busy", 2)
        async with asyncio.timeout(2 * WAIT_S):
            # Its end waits for every call.
            async with ClientLoad(front.address, callers=8, retry=ONE_ATTEMPT) as load:
                silent.process.send_signal(signal.SIGSTOP)
                await asyncio.to_thread(front.wait_healthy, "least_busy", 1)
                await load.more(100)
    assert not load.lost, load.lost


async def find_distributions(address: str) -> None:
    """Upload each to one server, and find all of them again: by chance, that would be once in thousands of runs."""
    async with SamplerClient(address, retry=ONE_ATTEMPT) as client:
        for number, name in enumerate(NAMES):
            await client.create_distribution([[0.0] * number + [50.0] + [0.0] * 7], name=name)
        for number, name in enumerate(NAMES):
            assert (await client.sample(distribution=name, seed=1)).samples.tolist() == [[number]]
