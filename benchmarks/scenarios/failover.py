"""Calls lost when one of three servers is killed and another is drained, under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.front import Front
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import SamplerServer
from samplerd_client import RetryPolicy, SamplerClient
from samplerd_client.errors import SamplerdError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

NOTE = (
    "16 callers of one client, seeded, ids checked; V = 1,024, and one caller with rows of 8 MiB; kill -9 after a "
    "quarter of the calls, SIGTERM to another server after half"
)
_SERVERS, _CALLERS = 3, 16
_VOCAB_SIZE, _LARGE_VOCAB_SIZE = 1_024, 2_097_152
_RETRIES = "retry_on: connect-failure,refused-stream,"
_WITHOUT_RESET = {f"{_RETRIES}reset,unavailable,cancelled": f"{_RETRIES}unavailable"}
_PANIC = {"{healthy_panic_threshold: {value: 0}}": "{}"}
_SMALL_BODIES = {"request_body_buffer_limit: 68157440": "request_body_buffer_limit: 4194304"}
SUBJECTS: dict[str, tuple[Mapping[str, str] | None, int, int]] = {
    "deploy/envoy": ({}, 1, 10_000),
    "the client's balancing": (None, 4, 10_000),
    "the client's balancing, one attempt": (None, 1, 1_500),
    "deploy/envoy without reset, cancelled": (_WITHOUT_RESET, 1, 1_500),
    "deploy/envoy with Envoy's panic threshold": (_PANIC, 1, 1_500),
    "deploy/envoy with request_body_buffer_limit of 4 MiB": (_SMALL_BODIES, 1, 1_500),
}
"""What is changed of the front's configuration (None: no front), the client's attempts, and how many calls it makes."""


class _Load:
    """Callers of one client that share a number of calls."""

    def __init__(self, client: SamplerClient, calls: int) -> None:
        self._client = client
        self._calls = calls
        self._rows = [np.random.default_rng(0).standard_normal((1, _VOCAB_SIZE)).astype(np.float32)]
        self._rows += [np.random.default_rng(1).standard_normal((1, _LARGE_VOCAB_SIZE)).astype(np.float32)]
        self._expected: dict[tuple[int, int], list[int]] = {}
        self._marks = {calls // 4: asyncio.Event(), calls // 2: asyncio.Event()}
        self.begun = self.large = self.wrong = 0
        self.lost: Counter[str] = Counter()

    async def run(self) -> None:
        """Make all calls."""
        await asyncio.gather(*(self._call(caller == 0) for caller in range(_CALLERS)))

    async def _call(self, is_large: bool) -> None:  # noqa: FBT001
        while self.begun < self._calls:
            self.begun += 1
            if mark := self._marks.get(self.begun):
                mark.set()
            self.large += is_large
            seed = self.begun % 64
            try:
                drawn = await self._client.sample(self._rows[is_large], temperature=0.8, seed=seed)
            except SamplerdError as error:
                self.lost[type(error).__name__] += 1
                await asyncio.sleep(0.01)
            else:
                ids = drawn.samples[0].tolist()
                self.wrong += self._expected.setdefault((int(is_large), seed), ids) != ids

    async def until(self, calls: int) -> None:
        """Wait until a quarter or a half of the calls have begun."""
        await self._marks[calls].wait()


async def _measure(targets: str | Sequence[str], servers: list[SamplerServer], calls: int, attempts: int) -> Result:
    async with SamplerClient(targets, retry=RetryPolicy(max_attempts=attempts)) as client:
        load = _Load(client, calls)
        running = asyncio.create_task(load.run())
        await load.until(calls // 4)
        os.kill(servers[0].pid, signal.SIGKILL)
        await load.until(calls // 2)
        ended = await asyncio.to_thread(servers[1].stop)
        last = load.begun
        await running
    return {
        "calls": load.begun,
        "large_calls": load.large,
        "calls_after_the_drain": load.begun - last,
        "exit_code": ended,
        "lost": dict(load.lost),
        "wrong": load.wrong,
        "attempts": attempts,
    }


def run(progress: Progress, options: Options) -> Result:
    """Kill and drain under load, once for each way to spread calls."""
    measured: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        servers: list[SamplerServer] = []
        for name, (changes, attempts, calls) in SUBJECTS.items():
            new = [SamplerServer("--drain-delay", "3s", "--threads", "1") for _ in range(_SERVERS - len(servers))]
            with ThreadPoolExecutor(len(new)) as starters:
                servers += starters.map(stack.enter_context, new)
            addresses = [f"127.0.0.1:{server.port}" for server in servers]
            measured[name] = _spread(addresses, servers, changes, attempts, 400 if options.quick else calls)
            lost = sum(measured[name]["lost"].values())
            progress(f"  {name}: {lost} of {measured[name]['calls']:,} lost")
            servers = servers[2:]
    return {"note": NOTE, "measured": measured}


def _spread(
    addresses: list[str], servers: list[SamplerServer], changes: Mapping[str, str] | None, attempts: int, calls: int
) -> Result:
    """Measure one way: through a front with these changes, or without one."""
    if changes is None:
        return asyncio.run(_measure(addresses, servers, calls, attempts))
    with tempfile.TemporaryDirectory(prefix="samplerd-") as folder, Front(Path(folder), addresses, changes) as front:
        front.wait_healthy("least_busy", _SERVERS)
        entry = asyncio.run(_measure(front.address, servers, calls, attempts))
        name = "cluster.least_busy.upstream_rq_retry"
        return {**entry, "retries": front.counters(name)[name]}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["calls spread by", "attempts", "calls", "of 8 MiB", "lost", "as", "wrong ids", "retries of Envoy"]
    return header, [
        [
            name,
            str(entry["attempts"]),
            f"{entry['calls']:,}",
            f"{entry['large_calls']:,}",
            str(sum(entry["lost"].values())),
            ", ".join(f"{kind} {count}" for kind, count in sorted(entry["lost"].items())) or "-",
            str(entry["wrong"]),
            str(entry.get("retries", "-")),
        ]
        for name, entry in result["measured"].items()
    ]


def targets(result: Result) -> Iterator[Target]:
    """Hold what is shipped against its promise: nothing is lost."""
    for name in ("deploy/envoy", "the client's balancing"):
        entry = result["measured"][name]
        lost = sum(entry["lost"].values()) + entry["wrong"]
        yield Target(what=f"{name}: calls lost", value=lost, bound=0, at_most=True, unit="calls")


SCENARIO = Scenario(run=run, table=table, targets=targets)
