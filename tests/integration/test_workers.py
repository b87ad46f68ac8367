"""Several workers on one port: what any of them answers is the same, and what all of them counted is shown as one."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal

import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.app.app import App
from samplerd_server.config import WorkerConfig
from samplerd_server.engine.device import Device
from samplerd_server.metrics.definition import definitions_of
from samplerd_server.metrics.table import PROCESS, ServerTable, SupervisorTable
from tests.integration.test_start import last_line, run
from tests.support.daemon import Daemon
from tests.support.engine import StubEngine
from tests.support.metric_table import types_of
from tests.support.processes import variables
from tests.support.requests import tensor
from tests.support.served import WAIT_S, Served, connect, stub
from tests.support.worker_pool import WORKERS, Crowd, children, worker_processes

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module", params=["grpcio", "envoy"])
def pool(request):
    with Daemon("--workers", str(WORKERS), "--transport", request.param) as daemon:
        yield daemon


async def test_every_worker_draws_the_same(pool):
    rows = np.random.default_rng(7).normal(0, 3, (5, 1000)).astype(np.float32)
    params = pb.SamplingParams(temperature=0.9, top_k=50, top_p=0.9)
    request = pb.SampleRequest(id=1, tensor=tensor(rows), params=params, num_samples=20, seed=42)
    request.outputs.logprobs.append(pb.LOGPROB_KIND_PROCESSED)
    async with Crowd(pool) as crowd:
        replies = await crowd.all(lambda own: own.Sample(request))
        for reply in replies:
            reply.ClearField("timing")
        assert len({reply.SerializeToString(deterministic=True) for reply in replies}) == 1
        assert len(replies[0].samples) == 100
        infos = await crowd.all(lambda own: own.GetServerInfo(pb.GetServerInfoRequest()))
        assert len({info.SerializeToString(deterministic=True) for info in infos}) == 1
        assert infos[0].start_time.seconds > 0


async def test_what_is_shown_is_the_sum_of_what_was_sent(pool):
    async with Crowd(pool) as crowd:
        before = pool.metrics()
        for _ in range(5):
            await crowd.all(lambda own: own.Sample(pb.SampleRequest(id=1, tensor=tensor([[1.0, 2.0], [3.0, 4.0]]))))
        after = pool.metrics()
        grown = {name: after[name] - before.get(name, 0.0) for name in after}
        sent = 5 * len(crowd.stubs)
        assert grown['samplerd_requests_total{code="OK",rpc="Sample"}'] == sent
        assert grown['samplerd_rows_total{path="random"}'] == 2 * sent
        assert grown["samplerd_samples_total"] == 2 * sent
        assert grown['samplerd_request_seconds_count{rpc="Sample"}'] == sent
        assert grown['samplerd_request_seconds_bucket{le="+Inf",rpc="Sample"}'] == sent
        assert grown["samplerd_batch_rows_sum"] == 2 * sent
        assert after["samplerd_in_flight_requests"] == 0
        assert [after[f'samplerd_worker_up{{worker="{index}"}}'] for index in range(WORKERS)] == [1.0] * WORKERS
        assert sum(name.startswith("samplerd_build_info") for name in after) == 1
        assert after["process_start_time_seconds"] > 0


async def test_a_scrape_shows_exactly_the_table_of_metrics(pool):
    shown = await asyncio.to_thread(pool.metric_types)
    assert shown == types_of(definitions_of(ServerTable), definitions_of(SupervisorTable), PROCESS)


async def test_health_is_answered_by_each(pool):
    async with Crowd(pool) as crowd:
        assert len(crowd.stubs) >= WORKERS
    for _ in range(2 * len(crowd.stubs)):
        async with connect(pool.address) as channel:
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_libraries_are_held_to_a_workers_threads(pool):
    for pid in children(pool):
        assert {"OMP_NUM_THREADS", "NUMBA_NUM_THREADS"} <= set(variables(pid))
        assert not any(name.startswith("SAMPLERD_") for name in variables(pid))


async def test_a_port_that_a_pool_serves_is_taken(pool):
    for workers in ("1", "2"):
        code, text = await asyncio.to_thread(run, f"--listen={pool.address}", f"--workers={workers}")
        assert code == 2
        assert last_line(text) == f"samplerd: cannot listen on {pool.address}: is the port taken?"
    code, text = await asyncio.to_thread(run, f"--metrics-listen={pool.metrics_address}", "--workers=2")
    assert code == 2
    assert f"cannot listen on {pool.metrics_address} for /metrics: Address already in use" in last_line(text)


async def test_a_worker_that_hangs_holds_no_scrape_up_and_stays_counted(pool):
    async with Crowd(pool) as crowd:
        await crowd.all(lambda own: own.Sample(pb.SampleRequest(id=1, tensor=tensor([[1.0, 2.0]]))))
    before = pool.metrics()
    stuck = worker_processes(pool)[1]
    for pid in stuck:
        os.kill(pid, signal.SIGSTOP)
    try:
        during = await asyncio.to_thread(pool.metrics)
    finally:
        for pid in stuck:
            os.kill(pid, signal.SIGCONT)
    assert sorted(during[f'samplerd_worker_up{{worker="{index}"}}'] for index in range(WORKERS)) == [0.0, 1.0]
    assert during["samplerd_samples_total"] == before["samplerd_samples_total"]
    after = pool.metrics()
    assert all(after[f'samplerd_worker_up{{worker="{index}"}}'] for index in range(WORKERS))
    assert after["samplerd_samples_total"] == before["samplerd_samples_total"]


async def test_without_metrics_nobody_asks():
    with Daemon("--workers", str(WORKERS), "--metrics-listen", "off") as daemon:
        assert daemon.metrics_address == "off"
        async with connect(daemon.address) as channel:
            reply = await stub(channel).Sample(pb.SampleRequest(id=3, tensor=tensor([[1.0]])), timeout=WAIT_S)
            assert (reply.id, list(reply.samples)) == (3, [0])


async def test_one_worker_is_a_server_of_its_own():
    with Daemon("--workers", "1") as daemon:
        assert not children(daemon)
        assert "samplerd_worker_up" not in "".join(daemon.metrics())


@pytest.mark.parametrize(("device", "index", "warns"), [("cuda:0", 0, True), ("cuda:0", 1, False), ("cpu", 0, False)])
async def test_copies_on_one_gpu_are_warned_of_once(caplog, device, index, warns):
    served = Served()
    worker = WorkerConfig(index=index, count=2, control=-1, metrics_socket="", started_at_s=7.5)
    served.config = dataclasses.replace(served.config, worker=worker)
    engine = StubEngine(served.sampler)
    engine.device = Device(name=device, description="a test")
    app = App(served.config, engine, asyncio.get_running_loop())
    with caplog.at_level("WARNING"):
        await app.start()
    assert [record.message for record in caplog.records] == ["several workers share one device"] * warns
    async with connect(app.server.addresses[0]) as channel:
        info = await stub(channel).GetServerInfo(pb.GetServerInfoRequest())
    assert info.start_time.ToNanoseconds() == 7_500_000_000
    await app.stop()
