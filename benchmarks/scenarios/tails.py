"""The slowest calls at four fifths of what a server can do, over those of an empty handler of the same transport.

First each server's own capacity: its rate with 64 calls in flight of h2load, or that of bursts from the generator below
if it is lower, since that takes more of the processors. Then calls begin at random moments, as those of callers that
know nothing of each other do, at 0.8 of it, the servers in turns. A ratio is taken within each round; what is told is
the median over the rounds. What the generator took of the processors, by its own processor time, is told beside the
server's. Where there are more than two cores, it has some of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.check import checked_empty, checked_reply, expect_all_ok
from benchmarks.cores import apart
from benchmarks.load import frame, percentiles_s, sample_request
from benchmarks.open_loop import poisson, send_on_schedule
from benchmarks.rounds import QUICK, Plan, Subject, in_turns
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.scrape import read_metrics
from benchmarks.servers import EMPTY, SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.cores import Cores
    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZES = (1_024, 32_768)
SHARE = 0.8
NOTE = f"one f32 row a call, at {SHARE:g} of each server's own capacity; milliseconds from the intended start"
_AT_ONCE, _BURSTS = np.zeros(256), 5
_PROMISES = (("grpcio", 32_768, "p99", 2.0), ("envoy", 32_768, "p99", 1.0), ("envoy", 1_024, "p50", 1.5))
"""Transport, V, which percentile, and how many times that of the empty handler it is at most."""


def run(progress: Progress, options: Options) -> Result:
    """Measure capacities, then latencies below them."""
    plan = QUICK if options.quick else Plan(seconds=1.5, rounds=3)
    seconds, rounds = (1.0, 1) if options.quick else (3.0, 5)
    cells: list[Result] = []
    with apart() as cores, ExitStack() as stack:
        body = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-bench-"))) / "body"
        samplers = [stack.enter_context(SamplerServer(transport=transport)) for transport in options.transports]
        for vocab_size in VOCAB_SIZES:
            request = sample_request(vocab_size)
            message = request.SerializeToString()
            body.write_bytes(frame(message))
            reply = next(checked_reply(sampler.port, request) for sampler in samplers).SerializeToString()
            with ExitStack() as empties:
                subjects: list[Subject] = []
                for sampler in samplers:
                    empty = empties.enter_context(EMPTY[sampler.transport](reply))
                    checked_empty(empty.port, message, reply)
                    subjects.append(Subject(name=f"empty {sampler.transport}", server=empty, body=body))
                    subjects.append(Subject(name=sampler.transport, server=sampler, body=body))
                progress(f"V = {vocab_size:,}: capacity")
                closed = in_turns(subjects, plan, progress)
                capacity = {
                    subject.name: min(closed[subject.name]["rows_per_s"], _burst(subject, message, cores))
                    for subject in subjects
                }
                progress(f"V = {vocab_size:,}: {SHARE:g} of it")
                own: defaultdict[str, list[Result]] = defaultdict(list)
                for number in range(rounds):
                    for subject in subjects:
                        starts = poisson(SHARE * capacity[subject.name], seconds, seed=number)
                        own[subject.name].append(_send(subject, message, starts, cores))
                for name, found in own.items():
                    cells.append({"vocab_size": vocab_size, "name": name, "capacity": capacity[name], "rounds": found})
                    progress(f"  {name}: p50 {_median(cells[-1], 'p50'):.2f}, p99 {_median(cells[-1], 'p99'):.2f} ms")
    return {"note": NOTE, "seconds": seconds, "are_cores_apart": cores.are_apart, "cells": cells}


def _burst(subject: Subject, message: bytes, cores: Cores) -> float:
    """Measure the calls in a second that are answered to as many as the generator can send, some at a time."""
    with cores.for_load():
        return float(np.median([send_on_schedule(subject.server.port, message, _AT_ONCE).rate for _ in range(_BURSTS)]))


def _send(subject: Subject, message: bytes, starts: np.ndarray, cores: Cores) -> Result:
    server = subject.server
    before = read_metrics(server.metrics_url) if isinstance(server, SamplerServer) else None
    server_s, load_s = server.cpu_s(), time.process_time()
    with cores.for_load():
        outcome = send_on_schedule(server.port, message, starts)
    server_s, load_s = server.cpu_s() - server_s, time.process_time() - load_s
    if before is not None and isinstance(server, SamplerServer):
        expect_all_ok(read_metrics(server.metrics_url) - before, len(starts))
    return {
        "calls": len(starts),
        "latency_ms": {name: 1e3 * value for name, value in outcome.percentiles_s().items()},
        "lag_ms": {name: 1e3 * value for name, value in percentiles_s(outcome.lags_s).items()},
        "server_cpu_us": 1e6 * server_s / len(starts),
        "load_cpu_us": 1e6 * load_s / len(starts),
    }


def _median(cell: Result, name: str, what: str = "latency_ms") -> float:
    return float(np.median([own[what][name] for own in cell["rounds"]]))


def _over_empty(result: Result, cell: Result, name: str) -> float:
    """Give a percentile over that of the empty handler in the same round, the median over the rounds."""
    [empty] = [
        own
        for own in result["cells"]
        if (own["vocab_size"], own["name"]) == (cell["vocab_size"], f"empty {cell['name']}")
    ]
    pairs = zip(cell["rounds"], empty["rounds"], strict=True)
    return float(np.median([one["latency_ms"][name] / other["latency_ms"][name] for one, other in pairs]))


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "calls/s", "p50", "p90", "p99", "p99.9", "p50 / empty", "p99 / empty", "lag p99", "load / server CPU"]
    rows = []
    for cell in result["cells"]:
        is_empty = cell["name"].startswith("empty")
        load, server = (sum(own[what] for own in cell["rounds"]) for what in ("load_cpu_us", "server_cpu_us"))
        rows.append(
            [
                f"V = {cell['vocab_size']:,}, {cell['name']}",
                f"{SHARE * cell['capacity']:,.0f}",
                *(f"{_median(cell, name):.2f}" for name in ("p50", "p90", "p99", "p99.9")),
                *("" if is_empty else f"{_over_empty(result, cell, name):.1f}" for name in ("p50", "p99")),
                f"{_median(cell, 'p99', 'lag_ms'):.2f}",
                f"{load / server:.2f}" if server else "",
            ]
        )
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold percentiles against those of the empty handler."""
    for transport, vocab_size, name, bound in _PROMISES:
        for cell in result["cells"]:
            if (cell["name"], cell["vocab_size"]) == (transport, vocab_size):
                yield Target(
                    what=f"{transport}, V = {vocab_size:,}, {name} at {SHARE:g} of capacity, over the empty handler's",
                    value=_over_empty(result, cell, name),
                    bound=bound,
                    at_most=True,
                )


SCENARIO = Scenario(run=run, table=table, targets=targets)
