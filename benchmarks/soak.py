"""A soak: mixed real traffic for a bounded time, every seeded answer checked, and nothing left behind.

Phase one runs one server: every RPC of both contracts and of health, Connect, gRPC-Web and the Open Inference Protocol
over HTTP, cancellations, deadlines, bad requests and new connections (`soak_traffic`, `soak_web`). After the first
third, its memory must not grow by more than 1 % from one half of the rest to the other, by their medians: what
allocators keep settles at some height. When its clients have gone it has as many tasks, threads, descriptors and
segments of shared memory as before they came, and no pool has threads beyond its bound that look for no work
(`soak_leaks`). Phase two runs two workers, of which one is killed or told to end every ten seconds; calls that it held
end as UNAVAILABLE or CANCELLED, and no answer is wrong. Neither leaves anything in /dev/shm.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from benchmarks.report import machine, write_json
from benchmarks.scrape import read_metrics
from benchmarks.servers import ServerProcess, free_ports
from benchmarks.soak_leaks import (
    BEYOND_POOLS,
    descriptors,
    lasting_threads,
    own_bytes,
    rests_of,
    segments_of,
    settled,
    threads_beyond_pools,
    threads_of,
)
from benchmarks.soak_traffic import CHUNK_SAMPLES, NAMES, Soak, make_cases, traffic, upload
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results" / "trust"
_MOST_GROWTH = 0.01
_SETTLE_S = 4.0
_LOOKS = 90
"""Looks at the server's memory in a whole run."""
_START_TRIES = 180
"""Seconds."""
_KILL_EVERY_S = 10.0
_HELD = ("samplerd_incoming_bytes", "samplerd_reply_bytes", "samplerd_transport_waiting_calls")
"""Gauges that are 0 when nobody calls, as are those of the queue."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """A server, and where it is reached."""

    server: ServerProcess
    web_port: int
    """Of 127.0.0.1, where it speaks HTTP/1.1."""
    metrics: str
    """Address of its metrics."""

    def count(self, rests: Mapping[int, int] | None = None) -> dict[str, int]:
        """Count what a leak would leave behind; `rests` as `threads_beyond_pools` takes them."""
        pids = self.server.pids()
        return {
            # Threads first: one of them answers when the metrics are asked for.
            "threads": sum(map(lasting_threads, pids)),
            BEYOND_POOLS: sum(threads_beyond_pools(pid, rests) for pid in pids),
            "tasks": int(read_metrics(self.metrics).total("samplerd_worker_tasks")),
            "descriptors": sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
            "segments": len(segments_of(self.server)),
        }


def _server(transport: str, workers: int) -> _Watched:
    port, web, metrics = free_ports(3)
    command = [
        *(sys.executable, "-m", "samplerd_server", "--transport", transport, "--workers", str(workers)),
        *("--chunk-samples", str(CHUNK_SAMPLES)),
        *("--listen", f"127.0.0.1:{port}", "--metrics-listen", f"127.0.0.1:{metrics}", "--log-level", "warning"),
    ]
    if transport == "envoy":
        web = port
    else:
        command += ["--http-listen", f"127.0.0.1:{web}"]
    return _Watched(ServerProcess(command, port, lambda: _is_serving(port)), web, f"http://127.0.0.1:{metrics}/metrics")


def _is_serving(port: int) -> bool:
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
            stub = sampler_pb2_grpc.SamplerServiceStub(channel)
            stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=5)
    except grpc.RpcError:
        return False
    return True


async def _one_server(soak: Soak, transport: str, seconds: float) -> dict[str, Any]:
    """Run phase one."""
    own = _server(transport, 1)
    server = own.server
    with server:
        await upload(soak.cases, f"127.0.0.1:{server.port}")
        await traffic(soak, server.port, own.web_port, seconds / 3)
        await asyncio.sleep(_SETTLE_S)
        before, files = own.count() | {BEYOND_POOLS: 0}, descriptors(server)
        warm = _calls(soak)
        memory: list[int] = []
        looking = asyncio.ensure_future(_look_at_memory(server, memory, seconds / _LOOKS))
        await traffic(soak, server.port, own.web_port, seconds * 2 / 3)
        looking.cancel()
        await asyncio.sleep(_SETTLE_S)
        after = await settled(partial(own.count, rests_of(server.pids())), before, asyncio.sleep)
        values = read_metrics(own.metrics)
        requests = values.total("samplerd_requests_total")
        calls = _calls(soak) - warm
        more = {name: number for name, number in after.items() if number > before[name]}
        opened = sorted(descriptors(server) - files) if more else []
        threads = sum(map(threads_of, server.pids()), Counter[str]())
        soak.hold(f"more than the {before} before, new descriptors {opened}, threads {dict(threads)}", more, {})
        for name in ("samplerd_in_flight_requests", "samplerd_queue_rows", "samplerd_queue_bytes", *_HELD):
            soak.hold(name, values.total(name), 0.0)
        half = len(memory) // 2
        growth = statistics.median(memory[half:]) / statistics.median(memory[:half]) - 1
        if growth > _MOST_GROWTH:
            soak.fail(f"memory grew by {growth:.2%} in {calls} calls")
        segments = segments_of(server)
        _stop(soak, server)
    soak.hold("left in /dev/shm", [str(path) for path in segments if path.exists()], [])
    return {
        "calls_measured": calls,
        "requests": requests,
        "before": before,
        "anonymous_bytes": memory,
        "growth": growth,
        "after": after,
        "threads": dict(threads),
    }


async def _look_at_memory(server: ServerProcess, seen: list[int], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        seen.append(own_bytes(server))


def _calls(soak: Soak) -> int:
    return sum(soak.counts[name] for name in NAMES)


async def _killed_workers(soak: Soak, transport: str, seconds: float) -> dict[str, Any]:
    """Run phase two."""
    own = _server(transport, 2)
    server, kills = own.server, 0
    with server:
        await asyncio.to_thread(_await_workers, own.metrics, 2)
        await upload(soak.cases, f"127.0.0.1:{server.port}")
        segments: set[Path] = set()
        looking = asyncio.ensure_future(_look(server, segments))
        calling = asyncio.ensure_future(traffic(soak, server.port, own.web_port, seconds))
        while not (await asyncio.wait({calling}, timeout=_KILL_EVERY_S))[0]:
            children = [pid for pid in server.pids()[1:] if "samplerd_server" in _command(pid)]
            if children:
                os.kill(children[kills // 2 % len(children)], (signal.SIGKILL, signal.SIGTERM)[kills % 2])
                kills += 1
        await calling
        looking.cancel()
        _stop(soak, server)
    soak.hold("left in /dev/shm", [str(path) for path in segments if path.exists()], [])
    return {"kills": kills, "segments": len(segments)}


def _await_workers(metrics: str, count: int) -> None:
    """Wait until all workers serve: one that ends before all have served once ends the whole server, as it should."""
    for _ in range(_START_TRIES):
        if read_metrics(metrics).total("samplerd_worker_up") >= count:
            return
        time.sleep(1)
    raise TimeoutError(f"{count} workers never served")


def _stop(soak: Soak, server: ServerProcess) -> None:
    log = server.log
    assert log is not None, "the server was not started. This is a bug."
    status = server.stop()
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        soak.fail(f"exit status {status}: {' | '.join(lines[-5:])}")


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


async def _look(server: ServerProcess, found: set[Path]) -> None:
    """Collect the segments of a server, once a second."""
    while True:
        found |= segments_of(server)
        await asyncio.sleep(1)


async def _run(transport: str, minutes: float, seed: int, store: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run both phases, and store what was seen after each."""
    cases = make_cases(seed)
    phases: dict[str, Any] = {}
    for name, share, loses, phase in (
        ("one_server", 0.7, False, _one_server),
        ("killed_workers", 0.3, True, _killed_workers),
    ):
        soak = Soak(seed, loses, cases)
        measured = await phase(soak, transport, minutes * 60 * share)
        phases[name] = {"seconds": minutes * 60 * share, **measured, "counts": dict(soak.counts)}
        phases[name]["faults"] = soak.faults
        print(name, phases[name], flush=True)  # a program
        store(phases)
    return phases


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak and store what it saw; returns 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="time in all (5)")
    parser.add_argument("--transport", choices=("grpcio", "envoy"), default="grpcio")
    parser.add_argument("--seed", type=int, default=1, help="which traffic (1)")
    parser.add_argument("--note", default="", help="stored with the result: what else the machine did")
    options = parser.parse_args(arguments)
    told = {**machine(), "command": "python -m benchmarks.soak " + " ".join(arguments or sys.argv[1:])}

    def store(phases: dict[str, Any]) -> None:
        result = {"benchmark": "soak", "machine": told, "note": options.note, "transport": options.transport, **phases}
        print(write_json(RESULTS, f"soak_{options.transport}", result))  # a program

    phases = asyncio.run(_run(options.transport, options.minutes, options.seed, store))
    return int(any(phase["faults"] for phase in phases.values()))


if __name__ == "__main__":
    sys.exit(main())
