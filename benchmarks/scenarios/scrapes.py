"""What a scrape costs: processor time of all processes of a server, alone and with eight workers, and what calls feel.

The processor time is that of a server that is idle but for the scrapes; what it uses by itself is measured before and
after, and subtracted. A scrape cannot take Python's lock from a call for longer than the processor time that it takes
in the call's own process, which is `worker_cpu_ms`. What calls feel is measured as well: a caller asks all the time;
for half a second there is one scrape after the other, and for half a second another program computes for as long as
those scrapes would, since calls wait for processors too. The calls beside a scrape are compared with the others.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np

from benchmarks.check import checked_reply
from benchmarks.load import sample_request
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import SamplerServer
from samplerd.v1 import sampler_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

WORKERS = 8
NOTE = "scraped one scrape after the other as Prometheus does: OpenMetrics, gzip"
MOST_MS, MOST_STALL_MS = 25.0, 5.0
_ACCEPT = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
_PERIOD_S = 0.5
_SCRAPER = f"""
import sys, time, urllib.request
url, end = sys.argv[1], time.monotonic() + float(sys.argv[2])
while (began := time.monotonic()) < end:
    if began // {_PERIOD_S} % 2:
        urllib.request.urlopen(urllib.request.Request(url, headers={_ACCEPT!r}), timeout=30).read()
        print(began, time.monotonic())
    else:
        spun = time.process_time() + float(sys.argv[3])
        while time.process_time() < spun:
            pass
        time.sleep(0.001)
"""
"""Scrapes in a process of its own, which must not hold up the caller, and prints when; computes in between."""


def run(progress: Progress, options: Options) -> Result:
    """Scrape servers without workers and with eight."""
    scrapes, seconds = (20, 3.0) if options.quick else (300, 40.0)
    servers = []
    for transport in options.transports:
        for workers in (1, WORKERS):
            with SamplerServer("--workers", str(workers), transport=transport) as server:
                checked_reply(server.port, sample_request(1_024))
                entry = _measure(server, scrapes, workers) | {"transport": transport, "workers": workers}
                entry |= _felt(server, seconds, entry["cpu_ms"])
            servers.append(entry)
            progress(f"  {transport}, workers {workers}: {entry['cpu_ms']:.1f} ms of processor time a scrape")
    return {"note": NOTE, "servers": servers}


def _measure(server: SamplerServer, scrapes: int, workers: int) -> Result:
    while workers > 1 and _scrape(server)[1] < workers:
        time.sleep(0.5)
    pids = server.pids()[1:] if workers > 1 else server.pids()  # the first only adds up what the others count
    before, _ = _spend(server, lambda: time.sleep(5))
    own = [_processor_s(pid) for pid in pids]
    used, seconds = _spend(server, lambda: [_scrape(server) for _ in range(scrapes)])
    each = [_processor_s(pid) - begun for pid, begun in zip(pids, own, strict=True)]
    after, _ = _spend(server, lambda: time.sleep(5))
    idle = (before + after) / 10
    return {
        "scrapes": scrapes,
        "series": _scrape(server)[0],
        "idle_core_share": idle,
        "cpu_ms": 1e3 * (used - idle * seconds) / scrapes,
        "worker_cpu_ms": 1e3 * (max(each) - idle / len(pids) * seconds) / scrapes,
        "wall_ms": 1e3 * seconds / scrapes,
    }


def _processor_s(pid: int) -> float:
    """Give the processor time of a process, with that of threads that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _felt(server: SamplerServer, seconds: float, scrape_ms: float) -> Result:
    """Call all the time beside scrapes and beside as much other work; gives how long calls took, in ms."""
    # What it prints is more than a pipe holds, and nobody reads while calls are made.
    command = [sys.executable, "-c", _SCRAPER, server.metrics_url, str(seconds), str(scrape_ms / 1e3)]
    with tempfile.TemporaryFile("w+") as printed, subprocess.Popen(command, stdout=printed) as scraper:
        calls = _call(server, scraper)
        printed.seek(0)
        lines = printed.read()
    scrapes = np.array([line.split() for line in lines.splitlines()], np.float64)
    begun, ended = np.array(calls).T
    # A scrape that goes on when a call begins, or that begins before it ends.
    first = np.searchsorted(scrapes[:, 1], begun)
    beside = (first < len(scrapes)) & (scrapes[np.minimum(first, len(scrapes) - 1), 0] < ended)
    quiet = ~beside & (begun // _PERIOD_S % 2 == 0) & (ended // _PERIOD_S % 2 == 0)
    took_ms = 1e3 * (ended - begun)
    return {"beside_ms": _percentiles(took_ms[beside]), "quiet_ms": _percentiles(took_ms[quiet])}


_MOST_CALLS = 1_000_000


def _call(server: SamplerServer, scraper: subprocess.Popen[bytes]) -> list[tuple[float, float]]:
    """Call while the scraper runs; gives when each call began and ended, in seconds on the monotonic clock."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = sampler_pb2_grpc.SamplerServiceStub(channel)
        request = sample_request(1_024)
        calls: list[tuple[float, float]] = []
        while scraper.poll() is None and len(calls) < _MOST_CALLS:
            began = time.monotonic()
            stub.Sample(request, timeout=30)
            calls.append((began, time.monotonic()))
    return calls


def _percentiles(values: np.ndarray) -> Result:
    names = {"p50": 50, "p99": 99, "p99.9": 99.9, "max": 100}
    return {"calls": len(values), **{name: float(np.percentile(values, share)) for name, share in names.items()}}


def _spend(server: SamplerServer, work: Callable[[], object]) -> tuple[float, float]:
    """Give the processor time of the server while something is done, and how long that took, in seconds."""
    cpu, began = server.cpu_s(), time.monotonic()
    work()
    return server.cpu_s() - cpu, time.monotonic() - began


def _scrape(server: SamplerServer) -> tuple[int, int]:
    """Scrape; returns the number of series, and how many workers are up."""
    request = urllib.request.Request(server.metrics_url, headers=_ACCEPT)  # noqa: S310  # http, by construction
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310  # as above
        lines = gzip.decompress(reply.read()).splitlines()
    up = sum(line.startswith(b"samplerd_worker_up{") and line.endswith(b" 1.0") for line in lines)
    return sum(not line.startswith(b"#") for line in lines), up


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = [
        *("transport", "workers", "series", "processor ms a scrape", "of them in one worker"),
        *("a call beside scrapes, ms: p50 / p99 / p99.9", "beside other work", "calls"),
    ]
    return header, [
        [
            entry["transport"],
            str(entry["workers"]),
            str(entry["series"]),
            f"{entry['cpu_ms']:.2f}",
            f"{entry['worker_cpu_ms']:.2f}",
            _shown(entry["beside_ms"]),
            _shown(entry["quiet_ms"]),
            f"{entry['beside_ms']['calls'] + entry['quiet_ms']['calls']:,}",
        ]
        for entry in result["servers"]
    ]


def _shown(took: Result) -> str:
    return " / ".join(f"{took[name]:.1f}" for name in ("p50", "p99", "p99.9"))


def targets(result: Result) -> list[Target]:
    """Hold the cost, and what calls feel, against their bounds."""
    found = []
    for entry in result["servers"]:
        what = f"a scrape of {entry['transport']}, workers {entry['workers']}"
        bound = MOST_STALL_MS if entry["workers"] == 1 else MOST_MS
        felt = entry["beside_ms"]["p99"] - entry["quiet_ms"]["p99"]
        for name, value, most in (
            ("processor time", entry["cpu_ms"], bound),
            ("processor time in one worker", entry["worker_cpu_ms"], MOST_STALL_MS),
            ("what it adds to the p99 of calls", felt, MOST_STALL_MS),
        ):
            found.append(Target(what=f"{what}: {name}", value=value, bound=most, at_most=True, unit="ms"))
    return found


SCENARIO = Scenario(run=run, table=table, targets=targets)
