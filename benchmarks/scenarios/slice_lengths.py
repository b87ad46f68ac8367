"""How long each slice of the largest requests holds the device, in time of the thread that computes it.

In this process, on one thread of the compiled sampler, by that thread's own clock: what else the machine does changes
little. The requests are those of `benchmarks.maximal`; slices are cut as the server cuts them.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.maximal import KINDS
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.slices import LongRequest, SliceClock
from samplerd_server.batching.ticket import NO_DEADLINE, Ticket
from samplerd_server.config import ServerConfig
from samplerd_server.engine.device_thread import DeviceThread
from samplerd_server.sampling.choose import choose_sampler
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.codec.decode_draft import DraftDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

NOTE = "compiled sampler, one thread, milliseconds of its own time"
_SHARE = 1.1
"""A slice may take this much more than predicted."""


def run(progress: Progress, options: Options) -> Result:
    """Cut each maximal request and compute its slices."""
    config = ServerConfig()
    sampler = choose_sampler("cpu", "numba", 1)
    sampler.warm_up()
    decoder = Decoder(limits=config.limits, capabilities=sampler.capabilities)
    device, clock, loop = DeviceThread(sampler), SliceClock(), asyncio.new_event_loop()
    cells: list[Result] = []
    for name, (about, make) in list(KINDS.items())[: 2 if options.quick else None]:
        message = make()
        if isinstance(message, pb.VerifyDraftRequest):
            request = Ticket(DraftDecoder(samples=decoder).decode(message), 0.0, NO_DEADLINE, "", loop.create_future())
        elif message.distribution:
            continue
        else:
            request = Ticket(decoder.decode(message), 0.0, NO_DEADLINE, "", loop.create_future())
        took = _slices(LongRequest(request), device, clock, config.batching.max_slice_s)
        cells.append(
            {
                "kind": name,
                "about": about,
                "slices": len(took),
                "total_ms": 1e3 * sum(took),
                "p50_ms": 1e3 * float(np.median(took)),
                "max_ms": 1e3 * max(took),
            }
        )
        progress(f"  {about}: {len(took)} slices, the longest {1e3 * max(took):.1f} ms")
    loop.close()
    return {"note": NOTE, "slice_ms": 1e3 * config.batching.max_slice_s, "cells": cells}


def _slices(own: LongRequest, device: DeviceThread, clock: SliceClock, slice_s: float) -> list[float]:
    """Compute a request; returns the seconds of each slice."""
    took: list[float] = []
    while not own.sliced.is_done:
        packed = own.sliced.cut(own.budget(clock, slice_s))
        began = time.thread_time()
        outcome = device.run(packed)
        took.append(time.thread_time() - began)
        clock.learn(own.sliced.cut_work, took[-1])
        own.learn(own.sliced.cut_work, took[-1])
        own.sliced.accept(outcome.results)
    return took


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "slices", "in all, ms", "p50, ms", "longest, ms"]
    rows = [
        [
            cell["about"],
            str(cell["slices"]),
            f"{cell['total_ms']:.0f}",
            f"{cell['p50_ms']:.1f}",
            f"{cell['max_ms']:.1f}",
        ]
        for cell in result["cells"]
    ]
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold the longest slice against what a slice is predicted to take."""
    for cell in result["cells"]:
        yield Target(
            what=f"longest slice of {cell['about']}",
            value=cell["max_ms"],
            bound=round(_SHARE * result["slice_ms"], 1),
            at_most=True,
            unit="ms",
        )


SCENARIO = Scenario(run=run, table=table, targets=targets)
