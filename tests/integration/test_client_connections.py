"""Several servers, several connections, metadata, CANCELLED by others, notebooks and forks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from samplerd_client import ConnectionLostError, DeadlineError, RetryPolicy, SamplerClient, UnavailableError
from samplerd_client.channel import DISTRIBUTION_KEY
from tests.support import fake_sampler as fake_module
from tests.support.balanced import ClientLoad
from tests.support.daemon import Daemon
from tests.support.fake_sampler import FakeSampler, fail, reply_to
from tests.support.served import WAIT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from samplerd.v1 import sampler_pb2 as pb

QUICK = RetryPolicy(initial_backoff_s=0.0, max_backoff_s=0.0)
ONCE = RetryPolicy(max_attempts=1)
ROW = np.array([0, 0, 5, 0], np.float32)
SERVICE = "samplerd.v1.SamplerService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Answering(FakeSampler):
    """Answers draws from distributions too, and notes whose calls it got."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: Counter[str] = Counter()

    async def Sample(self, request: pb.SampleRequest, context: Any) -> pb.SampleResponse:  # noqa: N802
        self.peers[context.peer()] += 1
        if request.WhichOneof("source") == "distribution":
            request.values.row.add(values=[0.0, 1.0])
        return await super().Sample(request, context)


@contextlib.asynccontextmanager
async def serving(address: str = "127.0.0.1:0", health: int = SERVING) -> AsyncIterator[tuple[Answering, str]]:
    fake = Answering()
    await fake.health.set(SERVICE, health)
    server, target = await fake_module.start(fake, address)
    try:
        yield fake, target
    finally:
        await server.stop(0)


@pytest.mark.parametrize(("connections", "expected"), [(1, 1), (4, 4)])
async def test_calls_take_turns_on_connections_of_their_own(connections: int, expected: int) -> None:
    async with serving() as (fake, target), SamplerClient(target, connections=connections) as client:
        for _ in range(8):
            await client.sample(ROW)
        assert len(fake.peers) == expected
        assert set(fake.peers.values()) == {8 // expected}


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_server_that_is_not_serving_gets_no_calls(kind: str, short_path: Any) -> None:
    addresses = [f"unix:{short_path}/{at}" if kind == "unix" else "127.0.0.1:0" for at in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        healths = (SERVING, SERVING, NOT_SERVING)
        pairs = [
            await stack.enter_async_context(serving(address, health))
            for address, health in zip(addresses, healths, strict=True)
        ]
        client = await stack.enter_async_context(SamplerClient([target for _, target in pairs], retry=ONCE))
        async with asyncio.timeout(WAIT_S):
            while not all(fake.requests for fake, _ in pairs[:2]):
                await client.sample(ROW)
        assert not pairs[2][0].requests


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("s")  # the path of a Unix socket has at most 107 bytes


async def test_calls_carry_metadata_and_the_name_of_their_distribution() -> None:
    async with serving() as (fake, target), SamplerClient(target, metadata={"x-tenant": "a"}, token="t") as client:
        await client.sample(ROW)
        await client.sample(distribution="prior")
    assert [own.get(DISTRIBUTION_KEY) for own in fake.metadata] == [None, "prior"]
    assert [(own["x-tenant"], own["authorization"]) for own in fake.metadata] == [("a", "Bearer t")] * 2


async def test_a_call_that_somebody_else_cancelled_is_tried_again() -> None:
    async with serving() as (fake, target):
        async with SamplerClient(target, retry=QUICK) as client:
            fake.script = [fail(grpc.StatusCode.CANCELLED)] * 2
            assert (await client.sample(ROW)).samples.tolist() == [[2]]
            assert len(fake.requests) == 3
        async with SamplerClient(target, retry=ONCE, coalesce=False) as client:
            fake.script = [fail(grpc.StatusCode.CANCELLED)]
            with pytest.raises(UnavailableError):
                await client.sample(ROW)


@pytest.mark.parametrize("coalesce", [True, False])
async def test_a_call_that_its_caller_cancelled_is_not_tried_again(*, coalesce: bool) -> None:
    async with serving() as (fake, target), SamplerClient(target, retry=QUICK, coalesce=coalesce) as client:
        fake.script = [fake_module.hang]
        task = asyncio.create_task(client.sample(ROW))
        await asyncio.wait_for(fake.received.wait(), WAIT_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.sample(ROW)).samples.tolist() == [[2]]
        assert len(fake.requests) == 2


async def test_a_closed_stream_waits_no_longer_than_its_timeout() -> None:
    async def silent(requests: AsyncIterator[pb.SampleRequest], _: Any) -> AsyncIterator[pb.SampleResponse]:
        async for request in requests:
            if request.num_samples > 99:
                yield reply_to(request)
        await asyncio.Event().wait()

    async with serving() as (fake, target), SamplerClient(target, timeout_s=0.2) as client:
        fake.stream_step = silent
        stream = await client.stream().__aenter__()
        with pytest.raises(DeadlineError):
            await stream.sample(ROW)
        async with asyncio.timeout(4):  # less than the five seconds of a client with more time
            await stream.aclose()


@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
async def test_a_default_client_of_several_servers_loses_no_call_when_one_is_stopped(transport: str) -> None:
    flags = ("--transport", transport, "--drain-delay", "1s")
    async with contextlib.AsyncExitStack() as stack:
        daemons = []
        for _ in range(2):
            daemons.append(await asyncio.to_thread(Daemon(*flags).__enter__))
            stack.callback(daemons[-1].__exit__)
        load = await stack.enter_async_context(ClientLoad([own.address for own in daemons]))
        daemons[0].process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemons[0].wait) == 0
        await load.more(100)
    assert not load.lost, load.lost


def run(program: str, *arguments: str) -> Any:
    """Run a program in a process of its own, and return the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


NOTEBOOK = """
import asyncio, json, sys
from samplerd_client import SyncSamplerClient

def cell():
    with SyncSamplerClient(sys.argv[1], timeout_s=20) as client:
        return client.sample([0.0, 0.0, 5.0]).samples.tolist()

async def notebook():
    return [cell(), cell(), await asyncio.to_thread(cell)]

print(json.dumps(asyncio.run(notebook())))
"""


async def test_the_synchronous_client_works_in_cells_of_a_notebook() -> None:
    """A notebook runs its cells in a thread in which an event loop runs."""
    async with serving() as (_, target):
        assert await asyncio.to_thread(run, NOTEBOOK, target) == [[[2]]] * 3


FORKED = """
import json, os, sys
from samplerd_client import ConnectionLostError, SyncSamplerClient

def ask(client):
    try:
        return client.sample([0.0, 0.0, 5.0]).samples.tolist()
    except ConnectionLostError as error:
        return str(error)

def new():
    try:
        with SyncSamplerClient(sys.argv[1], timeout_s=20) as client:
            return ask(client)
    except ConnectionLostError as error:
        return str(error)

def forked(work):
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        return json.loads(pipe.read())

def inherited():
    text = ask(client)
    client.close()
    return text

before = forked(new)
with SyncSamplerClient(sys.argv[1], timeout_s=20) as client:
    ask(client)
    print(json.dumps([before, forked(new), forked(inherited), ask(client)]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
async def test_a_forked_process_is_told_at_once_what_does_not_work() -> None:
    async with serving() as (_, target):
        before, new, inherited, parent = await asyncio.to_thread(run, FORKED, target)
    assert before == parent == [[2]]
    assert "forked after its parent had opened a client" in new
    assert inherited == new


async def test_a_client_that_is_not_connected_says_so() -> None:
    with pytest.raises(ConnectionLostError, match="not connected"):
        await SamplerClient(["127.0.0.1:1", "127.0.0.1:2"], connections=2).sample(ROW)
