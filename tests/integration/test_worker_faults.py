"""Workers that die, a supervisor that dies, workers that cannot start, and the end of them all."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.integration.test_start import last_line, run
from tests.support.daemon import KERNEL, Daemon
from tests.support.processes import Watched, children, descendants
from tests.support.requests import one_hot, tensor
from tests.support.served import WAIT_S, connect, failure, stub
from tests.support.worker_pool import WORKERS, Crowd
from tests.support.worker_pool import children as workers_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode
TRANSPORTS = ["grpcio", "envoy"]
SAMPLE_STARTED = (
    'grpc_server_started_total{grpc_method="Sample",grpc_service="samplerd.v1.SamplerService",grpc_type="unary"}'
)
UP = [f'samplerd_worker_up{{worker="{index}"}}' for index in range(WORKERS)]
RESTARTS = [f'samplerd_worker_restarts_total{{worker="{index}"}}' for index in range(WORKERS)]


def started(*flags: str) -> Daemon:
    return Daemon("--workers", str(WORKERS), *flags)


class Load:
    """Clients that ask all the time, and connect anew when their worker has died."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = asyncio.Event()
        self.answered = 0
        self.codes: set[grpc.StatusCode] = set()

    async def __aenter__(self) -> Load:
        self._clients = [asyncio.create_task(self._ask(number)) for number in range(8)]
        await self.more(100)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._clients)

    async def more(self, answers: int) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + answers
        async with asyncio.timeout(WAIT_S):
            while self.answered < wanted:
                await asyncio.wait(self._clients, timeout=0.01)
                for client in self._clients:
                    if client.done():
                        client.result()

    async def _ask(self, number: int) -> None:
        while not self._stop.is_set():
            async with connect(self._address) as channel:
                service = stub(channel)
                try:
                    while not self._stop.is_set():
                        request = pb.SampleRequest(id=1, tensor=tensor(one_hot(1, 100, number)))
                        reply = await service.Sample(request, timeout=WAIT_S)
                        assert list(reply.samples) == [number]
                        self.answered += 1
                except grpc.aio.AioRpcError as error:
                    self.codes.add(error.code())


def not_less(after: dict[str, float], before: dict[str, float]) -> bool:
    """Whether nothing that counts went backwards."""
    counts = [name for name in before if "_total" in name or "_bucket" in name or "_count" in name or "_sum" in name]
    assert len(counts) > 100
    return all(after[name] >= before[name] for name in counts)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_worker_that_is_killed_comes_back_while_the_others_answer(transport):
    with started("--transport", transport) as daemon:
        daemon.forgiven.add("worker ended")
        async with Load(daemon.address) as load:
            first, second = await asyncio.to_thread(daemon.metrics), await asyncio.to_thread(daemon.metrics)
            assert not_less(second, first)
            victim, other = workers_of(daemon)
            os.kill(victim, signal.SIGKILL)
            ended = await asyncio.to_thread(daemon.wait_event, "worker ended")
            assert (ended["why"], ended["starts_again_in"]) == ("SIGKILL", "0.1s")
            await load.more(100)
            during = await asyncio.to_thread(daemon.metrics)
            assert not_less(during, second)
            # On a slow machine it may be back already.
            assert during[UP[ended["worker"]]] == 0.0 or during[RESTARTS[ended["worker"]]] == 1.0
            back = await asyncio.to_thread(daemon.wait_event, "worker serving")
            assert back["worker"] == ended["worker"]
            assert other in workers_of(daemon)
            assert victim not in workers_of(daemon)
            await load.more(100)
            after = await asyncio.to_thread(daemon.metrics)
        assert not_less(after, during)
        assert [after[name] for name in UP] == [1.0] * WORKERS
        assert sorted(after[name] for name in RESTARTS) == [0.0, 1.0]
        assert after[RESTARTS[ended["worker"]]] == 1.0
        # Calls in flight at the dead worker failed as calls do whose server has gone; nobody else noticed.
        assert load.codes <= {CODE.UNAVAILABLE, CODE.CANCELLED, CODE.UNKNOWN, CODE.INTERNAL}
        async with Crowd(daemon):
            pass


async def test_a_worker_that_is_asked_to_end_drains_and_is_replaced():
    with started() as daemon:
        async with Load(daemon.address) as load:
            before = await asyncio.to_thread(daemon.metrics)
            os.kill(workers_of(daemon)[0], signal.SIGTERM)
            assert (await asyncio.to_thread(daemon.wait_event, "worker stopped"))["finished_in_grace"] is True
            ended = await asyncio.to_thread(daemon.wait_event, "worker ended")
            assert (ended["level"], ended["why"]) == ("warning", "exit code 0")
            await asyncio.to_thread(daemon.wait_event, "worker serving")
            await load.more(100)
            assert not_less(await asyncio.to_thread(daemon.metrics), before)
        assert load.codes <= {CODE.UNAVAILABLE}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_worker_that_is_asked_to_end_leaves_nothing_uncounted(transport):
    """Also what it counted since somebody scraped."""
    request = pb.SampleRequest(id=1, tensor=tensor([[1.0, 2.0]]))
    with started("--transport", transport) as daemon:
        daemon.forgiven.add("worker ended")
        async with Crowd(daemon) as crowd:
            await asyncio.to_thread(daemon.metrics)
            for _ in range(3):
                await crowd.all(lambda own: own.Sample(request))
            counted = 3 * len(crowd.stubs)
            os.kill(workers_of(daemon)[0], signal.SIGTERM)
            await asyncio.to_thread(daemon.wait_event, "worker serving")
        async with Crowd(daemon) as crowd:
            await crowd.all(lambda own: own.Sample(request))
            counted += len(crowd.stubs)
        after = await asyncio.to_thread(daemon.metrics)
        assert after['samplerd_requests_total{code="OK",rpc="Sample"}'] == counted
        assert after["samplerd_samples_total"] == counted
        assert sorted(after[name] for name in RESTARTS) == [0.0, 1.0]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_one_signal_drains_all_and_finishes_what_is_in_flight(number, transport):
    # Half a second of drawing in all: in flight for longer than it takes to be told to stop.
    work = pb.SampleRequest(id=1, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 19, seed=1)
    work.outputs.raw_samples = True
    daemon = await asyncio.to_thread(started("--transport", transport, "--drain-grace", "60s").__enter__)
    watched = Watched(descendants(daemon.process.pid))
    async with Crowd(daemon) as crowd:
        calls = [own.Sample(work) for own in crowd.stubs for _ in range(8)]
        async with asyncio.timeout(WAIT_S):
            while (await asyncio.to_thread(daemon.metrics))[SAMPLE_STARTED] < len(calls):
                pass
        daemon.process.send_signal(number)
        replies = await asyncio.wait_for(asyncio.gather(*calls), 2 * WAIT_S)
        assert {len(reply.raw_samples) for reply in replies} == {4 << 19}
        assert len({reply.raw_samples for reply in replies}) == 1
        assert await asyncio.to_thread(daemon.wait) == 0
        daemon.__exit__()
    stopped = [daemon.wait_event("worker stopped") for _ in range(WORKERS)]
    assert [event["finished_in_grace"] for event in stopped] == [True] * WORKERS
    assert daemon.wait_event("stopped")["finished_in_grace"] is True
    assert watched.wait(0) == []


async def test_a_second_signal_ends_all_at_once():
    flags = ("--max-samples-per-request", str(1 << 28), "--drain-grace", "3600s")
    daemon = await asyncio.to_thread(started(*flags).__enter__)
    watched = Watched(descendants(daemon.process.pid))
    async with connect(daemon.address) as channel:
        work = pb.SampleRequest(id=1, tensor=tensor([[0.0, 1.0]]), num_samples=1 << 28, seed=1)
        call = stub(channel).Sample(work)
        async with asyncio.timeout(WAIT_S):
            while (await asyncio.to_thread(daemon.metrics))["samplerd_in_flight_requests"] == 0:
                pass
        daemon.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(daemon.wait_event, "draining")
        await asyncio.sleep(0.5)  # what comes at once is the same signal, told to a process and to its group
        daemon.process.send_signal(signal.SIGTERM)
        assert (await failure(call)).code() is CODE.UNAVAILABLE
    daemon.__exit__()
    assert daemon.wait_event("stopped")["finished_in_grace"] is False
    assert await asyncio.to_thread(watched.wait, WAIT_S) == []


def worker_folder(pid: int) -> Path:
    """The private folder of the supervisor that started a worker."""
    return Path(Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")[-2]).parent


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_supervisor_that_is_killed_leaves_nobody(transport):
    daemon = await asyncio.to_thread(started("--transport", transport).__enter__)
    pids = descendants(daemon.process.pid)
    assert len(pids) == WORKERS * (1 if transport == "grpcio" else 2)
    folder = worker_folder(workers_of(daemon)[0])
    assert (folder / "distributions").is_dir()
    watched = Watched(pids)
    daemon.process.kill()
    assert await asyncio.to_thread(watched.wait, WAIT_S) == []
    assert await asyncio.to_thread(daemon.wait) == -signal.SIGKILL
    assert not folder.exists()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_workers_that_cannot_start_are_an_error_with_the_cause(transport):
    flags = ("--workers=2", "--device=cuda:99", "--kernel=torch", f"--transport={transport}")
    code, text = await asyncio.to_thread(run, *flags)
    assert code == 2
    assert "samplerd: worker 0 cannot start: device cuda:99 is not there" in last_line(text)


async def test_a_unix_socket_is_refused_with_the_reason(tmp_path):
    code, text = await asyncio.to_thread(run, "--workers=2", f"--listen=unix:{tmp_path}/s.sock")
    assert code == 2
    assert text.startswith(f"samplerd: --workers 2: cannot share unix:{tmp_path}/s.sock: a Unix socket belongs to one")


def sabotage(folder: Path, body: str) -> dict[str, str]:
    """An environment in which every worker, and nobody else, runs some code before anything of ours."""
    code = f"import os, sys, time\nif '--worker' in sys.orig_argv:\n    {body}\n"
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


async def test_workers_that_die_at_every_start_are_given_up(tmp_path):
    env = sabotage(tmp_path, f"os.mkdir({str(tmp_path)!r} + '/' + str(os.getpid())); os.kill(os.getpid(), 9)")
    code, text = await asyncio.to_thread(run, "--workers=2", env=env)
    assert code == 2
    assert last_line(text) == "samplerd: worker 0 ended 3 times before it served: SIGKILL"
    assert sum(path.name.isdigit() for path in tmp_path.iterdir()) == 3


async def test_a_worker_that_dies_once_at_its_start_is_started_again(tmp_path):
    first = tmp_path / "first"
    env = sabotage(tmp_path, f"os.path.exists({str(first)!r}) or (os.mkdir({str(first)!r}), os.kill(os.getpid(), 9))")
    daemon = Daemon("--workers", "2", env=env)
    daemon.forgiven.add("worker ended")
    with daemon:
        shown = await asyncio.to_thread(daemon.metrics)
    assert [shown[name] for name in RESTARTS] == [1.0, 0.0]
    assert [shown[name] for name in UP] == [1.0, 1.0]


async def test_a_signal_while_workers_start_ends_all(tmp_path):
    env = sabotage(tmp_path, "time.sleep(600)")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "samplerd_server", "--workers", "2", "--kernel", KERNEL),
        *("--listen", "127.0.0.1:0", "--metrics-listen", "off"),
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    async with asyncio.timeout(WAIT_S):
        while not (pids := await asyncio.to_thread(children, process.pid)):
            pass
    watched = Watched(pids)
    process.send_signal(signal.SIGTERM)
    _, log = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 0, log
    assert "stopped finished_in_grace=True" in last_line(log.decode())
    assert await asyncio.to_thread(watched.wait, WAIT_S) == []
