"""How long a small call takes beside the largest requests that the limits allow, one in flight at a time.

A polite client sends one row of 1,024 numbers 50 times a second, by a schedule; first alone, then beside each of the
largest requests (`benchmarks.maximal`). The promise: its p99 is at most three times that alone, plus one slice. An
empty handler gets those of 60 MiB as well: what a polite client sees beside it is what the transport alone takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.load import percentiles_s, sample_request
from benchmarks.maximal import KINDS
from benchmarks.open_loop import poisson, send_on_schedule
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import EMPTY, SamplerServer, ServerError, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

_VOCAB_SIZE, _RATE = 1_024, 50.0
_SLICE_MS = 20.0
_FACTOR = 3.0
_FIRST_REPLY_S = 120.0
_LARGE = ("filtered rows", "draft")
"""Requests of some 60 MiB."""
_KEPT = {"MALLOC_MMAP_THRESHOLD_": str(256 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""The allocator's settings of samplerd, for an empty handler."""
NOTE = (
    "one f32 row a call, 50 calls a second, milliseconds from the intended start; alone, and beside a maximal request"
)


def run(progress: Progress, options: Options) -> Result:
    """Measure the polite client alone, then beside each maximal request."""
    seconds = 2.0 if options.quick else 10.0
    message = sample_request(_VOCAB_SIZE).SerializeToString()
    cells: list[Result] = []
    for transport in options.transports:
        with SamplerServer(transport=transport) as server:
            send_on_schedule(server.port, message, poisson(_RATE, 1.0))  # the cost model learns
            cells.append(_cell(transport, "alone", _polite(server.port, message, seconds), []))
            _show(progress, cells[-1])
            for kind in KINDS:
                cells.append(_beside(server, transport, kind, message, seconds))
                _show(progress, cells[-1])
        empty = EMPTY[transport](b"")
        empty.environment = {**(empty.environment or os.environ), **_KEPT}
        with empty as server:
            for kind in _LARGE:
                cells.append({**_beside(server, transport, kind, message, seconds, "empty"), "handler": "empty"})
                _show(progress, cells[-1])
    return {"note": NOTE, "seconds": seconds, "slice_ms": _SLICE_MS, "cells": cells}


def _polite(port: int, message: bytes, seconds: float) -> dict[str, float]:
    outcome = send_on_schedule(port, message, poisson(_RATE, seconds), connections=1)
    return {name: 1e3 * value for name, value in percentiles_s(outcome.latencies_s).items()} | {
        "max": 1e3 * float(np.max(outcome.latencies_s))
    }


def _beside(server: ServerProcess, transport: str, kind: str, message: bytes, seconds: float, *handler: str) -> Result:
    """Measure while another process has a maximal request in flight.

    Raises:
        ServerError: the maximal request failed.

    """
    with tempfile.TemporaryDirectory(prefix="samplerd-bench-") as folder:
        log = Path(folder) / "seconds"
        with log.open("w") as out:
            command = [sys.executable, "-m", "benchmarks.maximal", str(server.port), kind, *handler]
            other = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            until = time.monotonic() + _FIRST_REPLY_S
            while not log.read_text() and other.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            latencies = _polite(server.port, message, seconds)
        finally:
            other.kill()
            other.wait()
        lines = log.read_text().split("\n")[:-1]
        try:
            took = [float(line) for line in lines]
        except ValueError as error:
            raise ServerError(f"the maximal request failed: {lines[-1]}") from error
    return _cell(transport, kind, latencies, took)


def _cell(transport: str, kind: str, latencies: dict[str, float], took: list[float]) -> Result:
    return {
        "transport": transport,
        "beside": kind,
        "latency_ms": latencies,
        "replies": len(took),
        "maximal_s": float(np.median(took)) if took else 0.0,
    }


def _show(progress: Progress, cell: Result) -> None:
    shown = ", ".join(f"{name} {ms:.2f}" for name, ms in cell["latency_ms"].items())
    progress(f"  {_handler(cell)}, {cell['beside']} ({cell['maximal_s']:.2f} s a reply): {shown} ms")


def _handler(cell: Result) -> str:
    return f"{cell['transport']}, an empty handler" if cell.get("handler") else str(cell["transport"])


def _about(kind: str) -> str:
    return KINDS[kind][0] if kind in KINDS else kind


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    names = ("p50", "p90", "p99", "max")
    header = ["", "the other's reply", *names]
    rows = [
        [
            f"{_handler(cell)}, {_about(cell['beside'])}",
            f"{cell['maximal_s']:.2f} s" if cell["replies"] else "",
            *(f"{cell['latency_ms'][name]:.2f}" for name in names),
        ]
        for cell in result["cells"]
    ]
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold p99 beside a maximal request against three times that alone, plus one slice."""
    alone = {cell["transport"]: cell["latency_ms"]["p99"] for cell in result["cells"] if cell["beside"] == "alone"}
    for cell in result["cells"]:
        if cell["beside"] != "alone" and not cell.get("handler"):
            yield Target(
                what=f"{cell['transport']}, p99 beside {_about(cell['beside'])}",
                value=cell["latency_ms"]["p99"],
                bound=round(_FACTOR * alone[cell["transport"]] + result["slice_ms"], 2),
                at_most=True,
                unit="ms",
            )


SCENARIO = Scenario(run=run, table=table, targets=targets)
