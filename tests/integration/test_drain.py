"""The end of a server: what is in flight is finished, what is new is refused, and the process ends whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import struct
import subprocess
import time
from collections import Counter

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.grpcio.server import GrpcServer
from tests.support.daemon import Daemon
from tests.support.http2 import ANSWERS, DATA, GOAWAY, HEADERS_FRAME, Connection
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, Served, connect, failure, stub
from tests.support.valve import Valve

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TRANSPORTS = pytest.mark.parametrize("transport", ["grpcio", "envoy"])


def ask(number: int, **fields) -> pb.SampleRequest:
    return pb.SampleRequest(id=number, tensor=tensor(one_hot(1, 100, number % 100)), **fields)


def watch(channel, service=""):
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))


async def test_a_drain_finishes_what_is_in_flight_and_refuses_what_is_new(serve):
    async with serve() as served:
        watching = watch(served.channel)
        assert (await watching.read()).status == SERVING
        calls = [served.stub.Sample(ask(1))]
        await served.entered()
        calls += [served.stub.Sample(ask(number)) for number in (2, 3)]
        busy, idle = served.stub.SampleStream(), served.stub.SampleStream()
        await busy.write(ask(4))
        await idle.write(pb.SampleRequest(id=5))
        assert (await idle.read()).id == 5
        await served.until(lambda: served.app.batcher.in_flight == 4)

        stopping = served.stop()
        assert (await asyncio.wait_for(watching.read(), WAIT_S)).status == NOT_SERVING
        # The idle stream ends at once and says why; the busy one takes no more requests, but answers what it has.
        assert (await failure(idle.read())).code() is CODE.UNAVAILABLE
        assert "draining" in await idle.details()
        assert (await failure(served.stub.Sample(ask(6)))).code() is CODE.UNAVAILABLE
        assert not stopping.done()

        served.sampler.open()
        assert [list((await call).samples) for call in calls] == [[1], [2], [3]]
        assert (await busy.read()).id == 4
        assert (await failure(busy.read())).code() is CODE.UNAVAILABLE
        assert await asyncio.wait_for(stopping, WAIT_S)
        assert served.app.has_ended
        # Whatever came together while the first ran was drawn together.
        assert served.sampler.batches[0] == 1
        assert sum(served.sampler.batches) == 4


async def test_what_reaches_a_draining_server_is_refused_and_counted(serve):
    async with serve() as served:
        stream = served.stub.SampleStream()
        await stream.write(ask(1))
        await served.entered()
        # What the transport still lets through while the drain has begun.
        served.app.handlers.service.drain()
        assert (await failure(served.stub.Sample(ask(2)))).code() is CODE.UNAVAILABLE
        await stream.write(ask(3))
        refused = await asyncio.wait_for(stream.read(), WAIT_S)
        assert (refused.id, refused.error.code) == (3, CODE.UNAVAILABLE.value[0])
        assert served.metrics.shed.value("draining") == 2
        served.sampler.open()
        assert (await stream.read()).id == 1
        assert (await failure(stream.read())).code() is CODE.UNAVAILABLE


async def test_a_stream_that_the_client_has_closed_ends_well_during_a_drain(serve):
    async with serve() as served:
        stream = served.stub.SampleStream()
        await stream.write(ask(1))
        await stream.done_writing()
        await served.entered()
        await served.round_trip()
        stopping = served.stop()
        await asyncio.sleep(0)
        served.sampler.open()
        assert [reply.id async for reply in stream] == [1]
        assert await stream.code() is CODE.OK
        assert await stopping


async def test_a_drain_beyond_its_grace_ends_anyway_and_says_so(monkeypatch):
    monkeypatch.setattr("samplerd_server.app.core._ABANDON_AFTER_S", 0.05)
    async with Served(transport={"drain_grace_s": 0.05}) as served:
        call = served.stub.Sample(ask(1))
        await served.entered()
        assert not await asyncio.wait_for(served.stop(), WAIT_S)
        assert not served.app.has_ended
        assert (await failure(call)).code() in {CODE.UNAVAILABLE, CODE.CANCELLED}


async def test_clients_are_told_to_go_once_they_have_been_answered(monkeypatch):
    # Told before, a connection is closed with its last reply, and the close discards what its client has not read if
    # that sends anything in the meantime. Told after, the client has said that it has read so far.
    monkeypatch.setattr("samplerd_server.transport.grpcio.server.FINISH_FIRST_S", WAIT_S)
    body = ask(1).SerializeToString()
    async with Served() as served:
        with await asyncio.to_thread(Connection, served.address) as client:
            stream = await asyncio.to_thread(client.start)
            await asyncio.to_thread(client.send, stream, struct.pack(">BI", 0, len(body)) + body, end=True)
            await served.entered()
            stopping = served.stop()
            assert (await failure(served.stub.Sample(ask(2)))).code() is CODE.UNAVAILABLE
            await asyncio.sleep(0.3)  # longer than a server that did not wait would take to say it
            served.sampler.open()
            while not client.is_leaving:
                await asyncio.to_thread(client.read)
                assert client.replies[stream].has_ended or not client.is_leaving
            assert client.replies[stream].grpc_status == 0
        assert await asyncio.wait_for(stopping, WAIT_S)


async def test_what_comes_as_grpcio_stops_is_refused_behind_its_goodbye(monkeypatch):
    # grpcio ends a call as CANCELLED that comes once it has stopped. A caller that waits for its refusal sends no other
    # before the server has told it to go.
    own = GrpcServer._hold_calls
    pending = []

    async def hold(server):
        server._lines.close()
        stream = await asyncio.to_thread(client.start)
        await asyncio.to_thread(client.send, stream, struct.pack(">BI", 0, len(body)) + body, end=True)
        pending.extend([stream, served.stub.Sample(ask(2)), served.stub.SampleStream()])
        async with asyncio.timeout(WAIT_S):
            while server._lines.waiting < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await own(server)

    monkeypatch.setattr(GrpcServer, "_hold_calls", hold)
    body = ask(1).SerializeToString()
    async with Served() as served:
        await served.round_trip()
        with await asyncio.to_thread(Connection, served.address) as client:
            stopping = served.stop()
            async with asyncio.timeout(WAIT_S):
                while len(pending) < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            stream, unary, streaming = pending
            assert GOAWAY in await asyncio.to_thread(client.frames, stream)
            assert (await failure(unary)).code() is CODE.UNAVAILABLE
            assert (await failure(streaming.read())).code() is CODE.UNAVAILABLE
        assert await asyncio.wait_for(stopping, WAIT_S)
        assert served.metrics.shed.value("draining") == 3
        assert served.sampler.batches == []


async def test_a_call_that_crosses_the_goodbye_is_not_read(monkeypatch):
    # grpcio ends every call that it reads once it has stopped as CANCELLED.
    monkeypatch.setattr("samplerd_server.transport.grpcio.server._LEAVE_S", 0.5)
    body = ask(1).SerializeToString()
    async with Served() as served:
        await served.round_trip()
        with await asyncio.to_thread(Connection, served.address) as client:
            stopping = served.stop()
            await asyncio.to_thread(client.wait_for, GOAWAY)
            stream = await asyncio.to_thread(client.start)
            await asyncio.to_thread(client.send, stream, struct.pack(">BI", 0, len(body)) + body, end=True)
            kinds = await asyncio.to_thread(client.frames, stream)
        assert GOAWAY in kinds
        assert not ANSWERS & set(kinds)
        assert await asyncio.wait_for(stopping, WAIT_S)


async def test_nor_is_it_while_a_call_of_another_connection_is_still_answered(monkeypatch):
    # What a connection sends whose call runs is read on: here it opens the window that the rest of the reply waits for.
    monkeypatch.setattr("samplerd_server.transport.grpcio.server.FINISH_FIRST_S", 0.1)
    monkeypatch.setattr("samplerd_server.transport.grpcio.server._LEAVE_S", 0.5)
    large = ask(2, num_samples=20_000, seed=1)
    large.outputs.raw_samples = True
    framed = [struct.pack(">BI", 0, len(body)) + body for body in map(bytes, (large.SerializeToString(), b""))]
    async with Served() as served:
        served.sampler.open()
        await served.round_trip()
        with (
            await asyncio.to_thread(Connection, served.address, 1 << 14) as busy,
            await asyncio.to_thread(Connection, served.address) as client,
        ):
            running = await asyncio.to_thread(busy.start)
            await asyncio.to_thread(busy.send, running, framed[0], end=True)
            await served.until(lambda: served.sampler.batches)
            stopping = served.stop()
            await asyncio.to_thread(client.wait_for, GOAWAY)
            stream = await asyncio.to_thread(client.start)
            await asyncio.to_thread(client.send, stream, framed[1], end=True)
            # To the end of the connection.
            assert not ANSWERS & set(await asyncio.to_thread(client.frames, stream))
            assert not stopping.done()
            await asyncio.to_thread(busy.let, running, 1 << 20)
            kinds = await asyncio.to_thread(busy.frames, running)
            assert DATA in kinds[kinds.index(GOAWAY) :]
            assert kinds[-1] == HEADERS_FRAME
        assert await asyncio.wait_for(stopping, WAIT_S)


async def test_callers_that_ask_again_at_once_are_refused_until_they_are_told_to_go(monkeypatch):
    monkeypatch.setattr("samplerd_server.transport.grpcio.server._QUIET_S", 1.0)  # however busy the machine is
    codes = Counter()

    async def ask_on(address):
        async with connect(address, ("grpc.enable_retries", 0)) as channel:
            service = stub(channel)
            await channel.channel_ready()
            while channel.get_state() is grpc.ChannelConnectivity.READY:
                try:
                    await service.Sample(ask(1), timeout=WAIT_S)
                    codes[CODE.OK] += 1
                except grpc.aio.AioRpcError as error:
                    codes[error.code()] += 1

    async with Served() as served:
        served.sampler.open()
        load = [asyncio.create_task(ask_on(served.address)) for _ in range(16)]
        async with asyncio.timeout(WAIT_S):
            while codes[CODE.OK] < 100:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await asyncio.wait_for(served.stop(), WAIT_S)
        await asyncio.wait_for(asyncio.gather(*load), WAIT_S)
    assert set(codes) == {CODE.OK, CODE.UNAVAILABLE}


async def test_clients_are_sent_elsewhere_while_a_long_call_is_still_in_flight():
    async with Served(transport={"drain_grace_s": 2 * WAIT_S}) as served:
        call = served.stub.Sample(ask(1))
        await served.entered()
        stopping = served.stop()
        async with asyncio.timeout(WAIT_S):
            while served.channel.get_state() is grpc.ChannelConnectivity.READY:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await served.stub.GetServerInfo(pb.GetServerInfoRequest())
        assert not call.done()
        served.sampler.open()
        assert list((await asyncio.wait_for(call, WAIT_S)).samples) == [1]
        assert await asyncio.wait_for(stopping, WAIT_S)


async def test_streams_that_only_their_clients_would_end_do_not_hold_the_drain_up(serve):
    async with serve(transport={"drain_grace_s": 2 * WAIT_S, "reflection": True}) as served:
        watching = [watch(served.channel, name) for name in ("", "samplerd.v1.SamplerService", "unknown")]
        for one in watching:
            await one.read()
        asking = reflection_pb2_grpc.ServerReflectionStub(served.channel).ServerReflectionInfo()
        await asking.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await asking.read()).list_services_response.service
        assert await asyncio.wait_for(served.stop(), WAIT_S)
        assert (await watching[0].read()).status == NOT_SERVING


# The daemon.


async def hammer(address: str, seen: dict, stop: asyncio.Event, warm: asyncio.Event) -> None:
    """Ask until refused; every answer must be right and every refusal UNAVAILABLE."""
    async with connect(address) as channel:
        service = stub(channel)
        number = 0
        while not stop.is_set():
            number += 1
            try:
                reply = await service.Sample(ask(number), timeout=WAIT_S)
            except grpc.aio.AioRpcError as error:
                seen["codes"].add(error.code())
                return
            assert list(reply.samples) == [number % 100]
            seen["ok"] += 1
            if seen["ok"] == 100:
                warm.set()


@TRANSPORTS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_signal_under_load_drains_and_exits_with_0(number, transport, tmp_path):
    daemon = await asyncio.to_thread(Daemon("--transport", transport, unix=tmp_path / "s.sock").__enter__)
    seen = {"ok": 0, "codes": set()}
    warm, stop = asyncio.Event(), asyncio.Event()
    addresses = [daemon.address, daemon.unix_address]
    async with connect(daemon.address) as channel:
        watching = watch(channel)
        assert (await watching.read()).status == SERVING
        load = [asyncio.create_task(hammer(addresses[n % 2], seen, stop, warm)) for n in range(16)]
        stream = stub(channel).SampleStream()
        await stream.write(ask(1))
        assert (await stream.read()).id == 1
        await asyncio.wait_for(warm.wait(), WAIT_S)
        daemon.process.send_signal(number)
        assert (await asyncio.wait_for(watching.read(), WAIT_S)).status == NOT_SERVING
        assert (await failure(stream.read())).code() is CODE.UNAVAILABLE
        await asyncio.wait_for(asyncio.gather(*load), WAIT_S)
        assert seen["codes"] == {CODE.UNAVAILABLE}
        assert await asyncio.to_thread(daemon.wait) == 0
        daemon.__exit__()
    assert daemon.wait_event("stopped")["finished_in_grace"] is True
    assert not (tmp_path / "s.sock").exists()


@TRANSPORTS
async def test_a_reply_that_its_client_reads_slowly_is_finished(transport):
    daemon = await asyncio.to_thread(Daemon("--transport", transport, "--drain-grace", "60s").__enter__)
    async with Valve(daemon.address) as valve, connect(valve.address) as channel:
        await stub(channel).Sample(ask(1))
        valve.close()
        work = pb.SampleRequest(id=2, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 20, seed=1)
        work.outputs.raw_samples = True
        call = stub(channel).Sample(work)
        async with asyncio.timeout(WAIT_S):
            while (await asyncio.to_thread(daemon.metrics))['samplerd_requests_total{code="OK",rpc="Sample"}'] < 2:
                pass
        daemon.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(daemon.wait_event, "draining")
        # Longer than the second that grpcio once had for what was on its way.
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(daemon.process.wait, 1.5)
        valve.open()
        assert len((await asyncio.wait_for(call, WAIT_S)).raw_samples) == 4 << 20
        assert await asyncio.to_thread(daemon.wait) == 0
        daemon.__exit__()
    assert daemon.wait_event("stopped")["finished_in_grace"] is True


async def test_nor_is_one_lost_that_the_server_has_written_whole():
    # It fits into the buffers of the system, so that to the transport the call is over. What the client sends meanwhile
    # must not make the system discard it.
    daemon = await asyncio.to_thread(Daemon("--drain-grace", "10m").__enter__)
    async with Valve(daemon.address) as valve, connect(valve.address) as channel:
        await stub(channel).Sample(ask(1))
        valve.close()
        work = pb.SampleRequest(id=2, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 18, seed=1)
        work.outputs.raw_samples = True
        call = stub(channel).Sample(work)
        async with asyncio.timeout(WAIT_S):
            while (await asyncio.to_thread(daemon.metrics))['samplerd_requests_total{code="OK",rpc="Sample"}'] < 2:
                pass
        daemon.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(daemon.wait_event, "draining")
        # For longer than clients have that have been sent everything; the server may end meanwhile.
        others = []
        for _ in range(400):
            others.append(stub(channel).Sample(ask(3)))
            await asyncio.sleep(0.01)
        valve.open()
        assert len((await asyncio.wait_for(call, WAIT_S)).raw_samples) == 1 << 20
        assert {(await failure(other)).code() for other in others} == {CODE.UNAVAILABLE}
        assert await asyncio.to_thread(daemon.wait) == 0
        daemon.__exit__()
    assert daemon.wait_event("stopped")["finished_in_grace"] is True


async def test_envoy_sends_clients_elsewhere_while_a_call_is_still_in_flight():
    flags = ("--transport", "envoy", "--drain-grace", "60s", "--max-samples-per-request", str(1 << 24))
    daemon = await asyncio.to_thread(Daemon(*flags).__enter__)
    async with connect(daemon.address) as channel:
        # A second of drawing or more.
        work = pb.SampleRequest(id=1, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 24, seed=1)
        work.outputs.raw_samples = True
        call = stub(channel).Sample(work)
        async with asyncio.timeout(WAIT_S):
            while (await asyncio.to_thread(daemon.metrics))["samplerd_in_flight_requests"] == 0:
                pass
        daemon.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            while channel.get_state() is grpc.ChannelConnectivity.READY:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await stub(channel).GetServerInfo(pb.GetServerInfoRequest())
        assert not call.done()
        assert len((await asyncio.wait_for(call, 2 * WAIT_S)).raw_samples) == 4 << 24
        assert await asyncio.to_thread(daemon.wait) == 0
    daemon.__exit__()


@TRANSPORTS
async def test_a_daemon_with_more_work_than_grace_exits_soon(transport):
    flags = ("--transport", transport, "--drain-grace", "0", "--max-samples-per-request", str(1 << 28))
    daemon = await asyncio.to_thread(Daemon(*flags).__enter__)
    async with connect(daemon.address) as channel:
        # Half a billion draws: far more than the grace, and than what is waited for afterwards.
        work = pb.SampleRequest(id=1, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 28, seed=1)
        work.outputs.raw_samples = True
        call = stub(channel).Sample(work)
        probe = stub(channel)
        async with asyncio.timeout(WAIT_S):
            while (await asyncio.to_thread(daemon.metrics))["samplerd_samples_total"] == 0:
                await probe.GetServerInfo(pb.GetServerInfoRequest())
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert (await failure(call)).code() in {CODE.UNAVAILABLE, CODE.CANCELLED}
        assert await asyncio.to_thread(daemon.wait) == 0
        assert time.monotonic() - began < 2 * WAIT_S
    assert daemon.wait_event("stopped")["finished_in_grace"] is False


@TRANSPORTS
async def test_a_message_that_never_comes_whole_does_not_hold_the_drain_up(transport):
    daemon = await asyncio.to_thread(Daemon("--transport", transport, "--drain-grace", "1h").__enter__)
    with Connection(daemon.address) as vanished:
        vanished.send(vanished.start(), struct.pack(">BI", 0, 1000) + b"x")
        vanished.call(b"\0\0\0\0\0", path="/samplerd.v1.SamplerService/GetServerInfo")
        await asyncio.to_thread(daemon.__exit__)
    assert json.loads(daemon.log[-1])["finished_in_grace"]
