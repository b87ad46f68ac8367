"""What only the transport envoy has: two processes that end together, an access log, an admin interface, its bounds."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import urllib.request
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.asgi import framed
from tests.support.daemon import Daemon
from tests.support.http2 import Connection
from tests.support.malformed import malformed
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, failure, stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
TRANSPORTS = pytest.mark.parametrize("transport", ["grpcio", "envoy"])


def ask(number: int, **fields) -> pb.SampleRequest:
    return pb.SampleRequest(id=number, tensor=tensor(one_hot(1, 100, number % 100)), **fields)


async def started(*flags: str, **named) -> Daemon:
    return await asyncio.to_thread(Daemon(*flags, **named).__enter__)


def envoy_pid(daemon: Daemon) -> int:
    return int(next(json.loads(line)["envoy_pid"] for line in daemon.log if '"serving"' in line))


def envoy_folder(daemon: Daemon) -> Path:
    arguments = Path(f"/proc/{envoy_pid(daemon)}/cmdline").read_text(encoding="utf-8").split("\0")
    return Path(arguments[arguments.index("--admin-address-path") + 1]).parent


def envoy_files() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("envoy*")}  # what Envoy calls it


def wait_end(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    with suppress(ProcessLookupError):
        watch = os.pidfd_open(pid)
        ended, _, _ = select.select([watch], [], [], WAIT_S)
        os.close(watch)
        assert ended, f"process {pid} is still there"


# Two processes.


async def test_when_the_supervisor_is_killed_envoy_finishes_its_calls_and_ends_too(tmp_path):
    daemon = await started("--transport", "envoy", "--drain-grace", "60s", unix=tmp_path / "s.sock")
    pid = envoy_pid(daemon)
    async with connect(daemon.address) as channel:
        rows = tensor(one_hot(1, 100, 7))
        await stub(channel).CreateDistribution(pb.CreateDistributionRequest(name="words", tensor=rows))
        call = stub(channel).SampleDistribution(pb.SampleRequest(distribution="words", num_samples=1 << 30))
        await call.read()
        daemon.process.kill()
        daemon.process.wait(WAIT_S)
        # Nothing keeps the next one from the same addresses, not even a call that is not finished yet.
        again = await started("--transport", "envoy", "--listen", daemon.address, unix=tmp_path / "s.sock")
        assert (await call.read()).chunk == 1
        call.cancel()
        await asyncio.to_thread(wait_end, pid)
    assert daemon.wait() == -signal.SIGKILL
    async with connect(again.unix_address) as channel:
        assert list((await stub(channel).Sample(ask(7))).samples) == [7]
    await asyncio.to_thread(again.__exit__)


async def test_envoy_leaves_nothing_in_shared_memory_even_when_it_is_killed(tmp_path):
    # Envoy keeps a file there for its hot restart, and no Envoy that ends takes its own away.
    before = envoy_files()
    daemon = await started("--transport", "envoy", unix=tmp_path / "s.sock")
    pid = envoy_pid(daemon)
    daemon.process.kill()
    await asyncio.to_thread(wait_end, pid)
    assert daemon.wait() == -signal.SIGKILL
    assert envoy_files() <= before


async def test_when_envoy_is_killed_the_supervisor_says_so_and_fails():
    daemon = await started("--transport", "envoy")
    async with connect(daemon.address) as channel:
        stream = stub(channel).SampleStream()
        await stream.write(ask(1))
        assert (await stream.read()).id == 1
        os.kill(envoy_pid(daemon), signal.SIGKILL)
        assert (await failure(stream.read())).code() is CODE.UNAVAILABLE
    assert await asyncio.to_thread(daemon.wait) == 2
    assert daemon.log[-1] == "samplerd: envoy ended by itself with -9"


# What it says.


async def test_the_access_log_has_a_line_for_each_call(tmp_path):
    path = tmp_path / "access.log"
    daemon = await started("--transport", "envoy", "--envoy-access-log", str(path))
    async with connect(daemon.address) as channel:
        await stub(channel).Sample(ask(1))
        await failure(stub(channel).Sample(malformed("no source")[0]))
        stream = stub(channel).SampleStream()
        await stream.write(ask(1))
        await stream.read()
        stream.cancel()
        await stub(channel).GetServerInfo(pb.GetServerInfoRequest())
    await asyncio.to_thread(daemon.__exit__)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    outcomes = sorted((line["method"].rpartition("/")[2], line.get("grpc_status")) for line in lines)
    assert outcomes[0] == ("GetServerInfo", "OK")
    assert outcomes[1:3] == [("Sample", "INVALID_ARGUMENT"), ("Sample", "OK")]
    assert outcomes[3][0] == "SampleStream"
    assert outcomes[3][1] != "OK"
    assert all(line["peer"].startswith("127.0.0.1:") and "grpc-python" in line["user_agent"] for line in lines)


async def test_the_admin_interface_is_there_when_asked_for():
    daemon = await started("--transport", "envoy", "--envoy-admin", "127.0.0.1:0")
    async with connect(daemon.address) as channel:
        await stub(channel).Sample(ask(1))
    admin = next(json.loads(line)["admin"] for line in daemon.log if '"serving"' in line)

    def stats() -> str:
        with urllib.request.urlopen(f"http://{admin}/stats/prometheus", timeout=WAIT_S) as reply:
            return reply.read().decode()

    text = await asyncio.to_thread(stats)
    assert 'envoy_http_downstream_rq_completed{envoy_http_conn_manager_prefix="ingress_http"} 1\n' in text
    await asyncio.to_thread(daemon.__exit__)


# Its bounds.


async def test_connections_beyond_the_bound_are_closed():
    daemon = await started("--transport", "envoy", "--envoy-max-connections", "2")
    body = framed(ask(1).SerializeToString())

    def fill_up() -> None:
        with Connection(daemon.address) as first:
            assert first.call(body).grpc_status == 0
            with Connection(daemon.address) as second:
                assert second.call(body).grpc_status == 0
                assert not answers()
                assert second.call(body).grpc_status == 0
            while not answers():  # until Envoy has noticed that the second has gone
                pass
            assert first.call(body).grpc_status == 0

    def answers() -> bool:
        with Connection(daemon.address) as third, suppress(ConnectionError):
            return third.call(body).grpc_status == 0
        return False

    await asyncio.to_thread(fill_up)
    await asyncio.to_thread(daemon.__exit__)


async def test_beyond_the_heap_calls_are_refused():
    daemon = await started("--transport", "envoy", "--envoy-max-heap", "1MiB")
    async with connect(daemon.address) as channel, asyncio.timeout(WAIT_S):
        codes = {CODE.OK}
        while codes == {CODE.OK}:  # Envoy looks four times a second
            call = stub(channel).Sample(ask(1))
            codes = {await call.code()}
        assert codes == {CODE.UNAVAILABLE}
    await asyncio.to_thread(daemon.__exit__)


def wait_closed(address: str) -> list[int | None]:
    """Call, and wait until the server says goodbye."""
    statuses = []
    with Connection(address) as connection:
        statuses.append(connection.call(framed(ask(1).SerializeToString())).grpc_status)
        while not (connection.is_leaving or connection.is_closed):
            connection.read()
    return statuses


@TRANSPORTS
@pytest.mark.parametrize("flag", ["--max-connection-idle", "--max-connection-age"])
async def test_connections_end_when_they_are_idle_or_old(transport, flag):
    daemon = await started("--transport", transport, flag, "1s")
    assert await asyncio.to_thread(wait_closed, daemon.address) == [0]
    async with connect(daemon.address) as channel:
        assert list((await stub(channel).Sample(ask(3))).samples) == [3]
    await asyncio.to_thread(daemon.__exit__)


async def test_idle_connections_are_pinged():
    daemon = await started("--transport", "envoy", "--keepalive", "100ms")

    def pinged() -> None:
        with Connection(daemon.address) as connection:
            while connection.pings < 3:
                connection.read()

    await asyncio.to_thread(pinged)
    await asyncio.to_thread(daemon.__exit__)


async def test_the_portable_sampler_works_inside_envoy_too():
    daemon = await started("--transport", "envoy", "--kernel", "torch")
    request = pb.SampleRequest(tensor=tensor(np.random.default_rng(1).normal(0, 2, (3, 1000))), num_samples=5, seed=7)
    request.params.top_p = 0.9
    async with connect(daemon.address) as channel:
        reply = await stub(channel).Sample(request)
        assert len(reply.samples) == 15
        assert list((await stub(channel).Sample(request)).samples) == list(reply.samples)
        assert list((await stub(channel).Sample(ask(3))).samples) == [3]
    await asyncio.to_thread(daemon.__exit__)


# Nothing is left behind.


async def storm(service, rng: random.Random, count: int) -> None:
    """Calls of which every fifth is cancelled at some moment, and a stream now and then."""
    for start in range(0, count, 100):
        calls = [service.Sample(ask(number)) for number in range(start, start + 100)]
        stream = service.SampleStream()
        with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await stream.write(ask(1))
            if start % 200:
                await stream.read()
        for _ in range(rng.randrange(5)):
            await asyncio.sleep(0)
        for call in (*calls[::5], stream):
            call.cancel()
        outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), WAIT_S)
        kept = [outcome for at, outcome in enumerate(outcomes) if at % 5]
        assert not [outcome for outcome in kept if isinstance(outcome, BaseException)]


@pytest.mark.slow
async def test_thousands_of_calls_leave_no_object(serve):
    async with serve() as served:
        served.sampler.open()
        rng = random.Random(5)
        objects = []
        for _ in range(3):
            await storm(served.stub, rng, 2000)
            await served.until(lambda: served.app.observer.in_flight == 0)
            await served.until(lambda: not served.tasks())
            objects.append(served.objects())
        # The first storm fills what is remembered; after that nothing grows with the number of calls.
        assert objects[2] - objects[1] < 500, objects


async def test_the_folder_of_a_server_is_gone_when_it_is():
    daemon = await started("--transport", "envoy")
    folder = envoy_folder(daemon)
    assert (folder / "samplerd.toml").exists()
    assert oct(folder.stat().st_mode)[-3:] == "700"
    await asyncio.to_thread(daemon.__exit__)
    assert not folder.exists()
