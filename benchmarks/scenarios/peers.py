"""Rows a second beside what people would run instead, each with its own batching around torch's sampler.

One peer at a time runs beside samplerd; within a round h2load loads samplerd over each transport, then the peer. Each
peer has its own virtual environment under build/peers, made on first use.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.check import checked_reply
from benchmarks.load import LoadError, frame, sample_request
from benchmarks.peers.peer import PEERS, PeerServer, checked_body, install
from benchmarks.plots import COLOURS, bars, plt
from benchmarks.rounds import QUICK, Plan, Subject, in_turns, ratio
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import SamplerServer, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZES = (1_000, 32_000, 128_000)
NOTE = "one f32 row a call, 64 calls in flight; ratio: samplerd's rows/s over the peer's, beside which it ran"
_BOUNDS = {
    "envoy": {1_000: 1.3, 32_000: 4.5, 128_000: 6.0},
    "grpcio": {32_000: 2.3, 128_000: 4.0},
}
COLOURS.update(dict.fromkeys(PEERS, "#6c757d"))


def run(progress: Progress, options: Options) -> Result:
    """Measure samplerd beside each peer. A peer that cannot be had is named, and the others are measured."""
    plan = QUICK if options.quick else Plan()
    measured: list[Result] = []
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        samplers = [stack.enter_context(SamplerServer(transport=transport)) for transport in options.transports]
        for name in options.peers or PEERS:
            try:
                measured.append(_beside(name, samplers, plan, progress))
            except (LoadError, ServerError) as error:
                progress(f"{name} failed: {error}")
                failed[name] = str(error)
    if not measured:
        raise ServerError(f"no peer could be measured: {failed}")
    return {
        "note": NOTE,
        "plan": asdict(plan),
        "transports": list(options.transports),
        "peers": measured,
        "failed": failed,
    }


def _beside(name: str, samplers: list[SamplerServer], plan: Plan, progress: Progress) -> Result:
    peer = PEERS[name]
    install(peer, progress)
    sizes = []
    with tempfile.TemporaryDirectory(prefix="samplerd-bench-") as folder, PeerServer(peer, Path(folder)) as server:
        progress(f"{name} {peer.version} serves after {server.start_s:.0f} s")
        for vocab_size in VOCAB_SIZES:
            request = sample_request(vocab_size)
            ours = Path(folder) / "ours.body"
            ours.write_bytes(frame(request.SerializeToString()))
            subjects = []
            for sampler in samplers:
                checked_reply(sampler.port, request)
                subjects.append(Subject(name=sampler.transport, server=sampler, body=ours))
            theirs = checked_body(server, np.frombuffer(request.tensor.data, "<f4"))
            subjects.append(
                Subject(name=name, server=server, body=theirs.path, load=peer.load, reply_bytes=theirs.reply_bytes)
            )
            progress(f"{name}, V = {vocab_size:,}")
            measured = in_turns(subjects, plan, progress)
            ratios = {sampler.transport: ratio(measured, sampler.transport, name) for sampler in samplers}
            sizes.append({"vocab_size": vocab_size, "measured": measured, "ratios": ratios})
    return {"name": name, "version": peer.version, "api": peer.api, "start_s": server.start_s, "sizes": sizes}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "rows/s", "CPU us/row", "p50 ms", "p99 ms"]
    header += [f"{transport} over it" for transport in result["transports"]]
    rows = []
    for peer in result["peers"]:
        for size in peer["sizes"]:
            entry = size["measured"][peer["name"]]
            rows.append(
                [
                    f"V = {size['vocab_size']:,}, {peer['name']} {peer['version']} ({peer['api']})",
                    f"{entry['rows_per_s']:,.0f}",
                    f"{entry['cpu_us_per_row']:.0f}",
                    f"{entry['latency_ms']['p50']:.1f}",
                    f"{entry['latency_ms']['p99']:.1f}",
                    *(f"{over:.2f}" for over in size["ratios"].values()),
                ]
            )
    for name, error in result["failed"].items():
        rows.append([f"{name} failed: {error.splitlines()[0][:80]}", *([""] * (len(header) - 1))])
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold the ratio to the best peer, the one over which it is least, against the promises."""
    for transport in result["transports"]:
        for vocab_size, bound in _BOUNDS[transport].items():
            ratios = {
                peer["name"]: size["ratios"][transport]
                for peer in result["peers"]
                for size in peer["sizes"]
                if size["vocab_size"] == vocab_size
            }
            best = min(ratios, key=lambda name: ratios[name])
            yield Target(
                what=f"{transport} over the best peer ({best}), V = {vocab_size:,}", value=ratios[best], bound=bound
            )


def figure(result: Result) -> Figure:
    """Draw rows per second beside each peer's, a panel for each peer and size; above a bar samplerd's ratio."""
    peers = result["peers"]
    drawing, axes = plt.subplots(
        len(peers), len(VOCAB_SIZES), figsize=(11, 3.3 * len(peers)), layout="constrained", squeeze=False
    )
    for peer, line in zip(peers, axes, strict=True):
        for size, ax in zip(peer["sizes"], line, strict=True):
            series = {
                who: [entry["rows_per_s"] for entry in size["measured"][who]["rounds"]]
                for who in (peer["name"], *result["transports"])
            }
            bars(ax, series, {name: f"{over:.1f}x" for name, over in size["ratios"].items()})
            ax.set_title(f"{peer['name']} {peer['version']}, V = {size['vocab_size']:,}", fontsize=11)
        line[0].set_ylabel("rows per second")
    drawing.suptitle("samplerd beside other servers that batch around torch's own sampler, one f32 row a call")
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
