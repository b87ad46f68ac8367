"""Calls a second of one Python client, whose calls of one row each share requests, against the same calls made alone.

The load is the client itself, in this process, since it is what is measured: C tasks, each of which asks for one row at
a time. The two clients load the server in turns; what one call costs the client is this process's processor time, the
task that makes the call included.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from array import array
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.load import LoadError
from benchmarks.plots import bars, plt
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.scrape import read_metrics
from benchmarks.servers import SamplerServer
from samplerd_client import SamplerClient, SamplerdError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

LOADS = ((1_024, 1), (1_024, 64), (1_024, 256), (32_768, 64))
"""V and calls in flight."""
MODES = {"alone": False, "coalesced": True}
NOTE = "one Python client, one f32 row a call, on this machine with its server; in brackets the calls made alone"
PROMISED = 5.0
"""Times the calls a second at V = 1,024, with 64 or more in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure."""

    seconds: float = 1.5
    rounds: int = 5
    warm_up_s: float = 0.3


QUICK = Plan(seconds=0.3, rounds=2, warm_up_s=0.1)


def run(progress: Progress, options: Options) -> Result:
    """Measure every load on every transport."""
    plan = QUICK if options.quick else Plan()
    loads = []
    with ExitStack() as stack:
        samplers = [stack.enter_context(SamplerServer(transport=transport)) for transport in options.transports]
        for vocab_size, calls in LOADS:
            for sampler in samplers:
                progress(f"V = {vocab_size:,}, {calls} calls in flight, {sampler.transport}")
                measured = asyncio.run(_in_turns(sampler, vocab_size, calls, plan, progress))
                pairs = zip(measured["coalesced"]["rounds"], measured["alone"]["rounds"], strict=True)
                ratio = statistics.median(ours["calls_per_s"] / theirs["calls_per_s"] for ours, theirs in pairs)
                load = {"vocab_size": vocab_size, "in_flight": calls, "transport": sampler.transport}
                loads.append({**load, "ratio": ratio, "measured": measured})
    return {"note": NOTE, "plan": asdict(plan), "loads": loads}


async def _in_turns(
    sampler: SamplerServer, vocab_size: int, calls: int, plan: Plan, progress: Progress
) -> dict[str, dict[str, Any]]:
    rows = np.random.default_rng(1).normal(0.0, 3.0, (min(calls, 64), vocab_size)).astype(np.float32)
    target = f"127.0.0.1:{sampler.port}"
    rounds: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for number in range(plan.rounds + 1):
        for mode, coalesce in MODES.items():
            async with SamplerClient(target, coalesce=coalesce) as client:
                await _load(client, rows, calls, plan.warm_up_s)
                if number > 0:
                    rounds[mode].append(await _measured(sampler, client, rows, calls, plan.seconds))
        if number > 0:
            shown = ", ".join(f"{mode} {entries[-1]['calls_per_s']:,.0f}" for mode, entries in rounds.items())
            progress(f"  round {number} of {plan.rounds}, calls/s: {shown}")
    return {
        mode: {**{key: statistics.median(entry[key] for entry in entries) for key in entries[0]}, "rounds": entries}
        for mode, entries in rounds.items()
    }


async def _measured(
    sampler: SamplerServer, client: SamplerClient, rows: NDArray[np.float32], calls: int, seconds: float
) -> dict[str, float]:
    before, server_cpu_s, own_cpu_s = read_metrics(sampler.metrics_url), sampler.cpu_s(), time.process_time()
    durations, elapsed_s = await _load(client, rows, calls, seconds)
    own_cpu_s, server_cpu_s = time.process_time() - own_cpu_s, sampler.cpu_s() - server_cpu_s
    grown = read_metrics(sampler.metrics_url) - before
    requests = grown.total("samplerd_requests_total", rpc="Sample", code="OK")
    drawn = grown.total("samplerd_rows_total")
    if drawn != len(durations) or requests != grown.total("samplerd_requests_total", rpc="Sample"):
        raise LoadError(f"of {len(durations)} calls the server drew {drawn:.0f} rows")
    p50, p99 = np.percentile(durations, [50, 99])
    return {
        "calls_per_s": len(durations) / elapsed_s,
        "calls_per_request": drawn / requests,
        "client_cpu_us": 1e6 * own_cpu_s / len(durations),
        "server_cpu_us": 1e6 * server_cpu_s / len(durations),
        "p50_ms": 1e3 * float(p50),
        "p99_ms": 1e3 * float(p99),
    }


async def _load(
    client: SamplerClient, rows: NDArray[np.float32], calls: int, seconds: float
) -> tuple[NDArray[np.float64], float]:
    """Keep so many calls in flight for so long; give how long each took, and how long all."""
    durations = array("d")
    began = time.perf_counter()

    async def caller(own: NDArray[np.float32]) -> None:
        while (start := time.perf_counter()) < began + seconds:
            await client.sample(own, temperature=0.8)
            durations.append(time.perf_counter() - start)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(calls):
                group.create_task(caller(rows[number % len(rows)]))
    except* SamplerdError as errors:
        raise LoadError(f"a call failed: {errors.exceptions[0]!r}") from errors
    return np.array(durations), time.perf_counter() - began


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "calls/s", "ratio", "calls/request", "client CPU us", "server CPU us", "p50 ms", "p99 ms"]
    rows = []
    for load in result["loads"]:
        ours, theirs = load["measured"]["coalesced"], load["measured"]["alone"]
        rows.append(
            [
                f"V = {load['vocab_size']:,}, {load['in_flight']} in flight, {load['transport']}",
                f"{ours['calls_per_s']:,.0f} ({theirs['calls_per_s']:,.0f})",
                f"{load['ratio']:.2f}",
                f"{ours['calls_per_request']:.1f}",
                *(
                    f"{ours[name]:.0f} ({theirs[name]:.0f})"
                    if name.endswith("us")
                    else f"{ours[name]:.1f} ({theirs[name]:.1f})"
                    for name in ("client_cpu_us", "server_cpu_us", "p50_ms", "p99_ms")
                ),
            ]
        )
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold small rows in company against the promise."""
    for load in result["loads"]:
        if load["vocab_size"] == 1_024 and load["in_flight"] >= 64:
            what = f"coalesced calls, V = 1,024, {load['in_flight']} in flight, {load['transport']}"
            yield Target(what=what, value=load["ratio"], bound=PROMISED)


def figure(result: Result) -> Figure:
    """Draw calls per second by load, coalesced beside alone."""
    loads = result["loads"]
    drawing, axes = plt.subplots(1, len(loads), figsize=(3 * len(loads), 4), layout="constrained", squeeze=False)
    for load, ax in zip(loads, axes[0], strict=True):
        series = {mode: [entry["calls_per_s"] for entry in load["measured"][mode]["rounds"]] for mode in MODES}
        bars(ax, series, {"coalesced": f"{load['ratio']:.1f}"})
        ax.set_title(f"V = {load['vocab_size']:,}, {load['in_flight']} in flight,\n{load['transport']}", fontsize=10)
    axes[0][0].set_ylabel("calls per second")
    drawing.suptitle("One Python client, one f32 row a call; above a bar its ratio to calls made alone")
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
