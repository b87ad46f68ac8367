"""Inferences a second as Triton's own load generator sees them, from samplerd and from Triton with torch's sampler.

perf_analyzer keeps 64 calls in flight, each server of a round in turn; the model is called `sampler` everywhere.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.load import sample_request
from benchmarks.peers.peer import PEERS, TEMPERATURE, PeerServer, checked_body
from benchmarks.peers.peer import install as install_peer
from benchmarks.perf_analyzer import VERSION, analyze, install, write_inputs
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Progress
    from benchmarks.servers import ServerProcess

__all__ = ["SCENARIO"]

VOCAB_SIZE = 32_000
IN_FLIGHT = 64
PEER = "triton"
NOTE = f"one f32 row of {VOCAB_SIZE:,} a call over the Open Inference Protocol; the load has the same cores"
_BOUND = 3.0


def run(progress: Progress, options: Options) -> Result:
    """Measure samplerd over each transport, and Triton."""
    rounds, window_ms = (1, 500) if options.quick else (5, 2_000)
    peer = PEERS[PEER]
    install()
    install_peer(peer, progress)
    measured: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-bench-")))
        (folder / "peer").mkdir()
        triton = stack.enter_context(PeerServer(peer, folder / "peer"))
        servers: dict[str, ServerProcess] = {
            name: stack.enter_context(SamplerServer(transport=name)) for name in options.transports
        }
        servers[PEER] = triton
        row = np.frombuffer(sample_request(VOCAB_SIZE).tensor.data, "<f4")
        checked_body(triton, row)
        inputs = folder / "inputs.json"
        write_inputs(inputs, row, float(TEMPERATURE))
        for number in range(1, rounds + 1):
            for name, server in servers.items():
                figures = asdict(analyze(server.port, inputs, in_flight=IN_FLIGHT, window_ms=window_ms))
                measured.setdefault(name, []).append(figures)
            shown = ", ".join(f"{name} {entries[-1]['inferences_per_s']:,.0f}" for name, entries in measured.items())
            progress(f"  round {number} of {rounds}, inferences/s: {shown}")
    theirs = [entry["inferences_per_s"] for entry in measured[PEER]]
    return {
        "note": NOTE,
        "perf_analyzer": VERSION,
        "triton": peer.version,
        "in_flight": IN_FLIGHT,
        "window_ms": window_ms,
        "measured": measured,
        "ratios": {
            name: statistics.median(
                entry["inferences_per_s"] / own for entry, own in zip(measured[name], theirs, strict=True)
            )
            for name in options.transports
        },
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    rows = []
    for name, entries in result["measured"].items():
        median = {key: statistics.median(entry[key] for entry in entries) for key in entries[0]}
        over = result["ratios"].get(name)
        rows.append(
            [
                f"{name} {result['triton']}" if name == PEER else f"samplerd, {name}",
                f"{median['inferences_per_s']:,.0f}",
                f"{median['p50_ms']:.1f}",
                f"{median['p99_ms']:.1f}",
                "" if over is None else f"{over:.2f}",
            ]
        )
    return ["", "inferences/s", "p50 ms", "p99 ms", "over Triton"], rows


def targets(result: Result) -> Iterator[Target]:
    """Hold the ratios against the promise."""
    for name, over in result["ratios"].items():
        yield Target(what=f"{name} over Triton by perf_analyzer, V = {VOCAB_SIZE:,}", value=over, bound=_BOUND)


SCENARIO = Scenario(run=run, table=table, targets=targets)
