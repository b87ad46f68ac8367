"""Rows a second over SampleStream, against an empty stream handler fed the same bytes, and against unary calls.

A call is one stream: h2load sends a body of many frames as fast as the server takes them, on 4 connections of one
stream each. samplerd takes 16 requests of a stream at a time here (`--max-stream-requests 16`), so that 64 are in
flight, as with single calls; the empty handler takes one after the other, since it has nothing to wait for.
In the same rounds the same requests go to the same servers as unary calls, 64 in flight.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.check import checked_empty, checked_reply
from benchmarks.load import CONNECTIONS, STREAM_PATH, STREAMS, Load, frame, sample_request
from benchmarks.plots import bars, plt
from benchmarks.rounds import QUICK, Plan, Subject, in_turns, ratio
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import EmptyServer, SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

MESSAGES = {1_024: 1_000, 32_768: 128, 131_072: 32}
"""In a stream, by V: enough that opening it costs nothing, few enough that a body stays below 20 MiB."""
NOTE = f"one f32 row a message, {CONNECTIONS} streams with {STREAMS} requests in flight each; in brackets the empty one"
_OVER_EMPTY = {1_024: 0.85, 32_768: 0.95}
"""What grpcio is to reach of an empty stream handler's rate, by V."""
_OVER_UNARY = {1_024: 1.2, 32_768: 1.0}
"""What envoy is to reach of the rate of its own unary calls, by V."""


def run(progress: Progress, options: Options) -> Result:
    """Measure every vocabulary size."""
    plan = QUICK if options.quick else Plan()
    sizes = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-bench-")))
        body, one = folder / "body", folder / "one"
        samplers = [
            stack.enter_context(SamplerServer("--max-stream-requests", str(STREAMS), transport=transport))
            for transport in options.transports
        ]
        for vocab_size, messages in MESSAGES.items():
            progress(f"V = {vocab_size:,}, {messages:,} messages a stream")
            request = sample_request(vocab_size)
            reply = next(checked_reply(sampler.port, request) for sampler in samplers).SerializeToString()
            framed = frame(request.SerializeToString())
            body.write_bytes(framed * messages)
            one.write_bytes(framed)
            load = Load(path=STREAM_PATH, connections=CONNECTIONS, streams=1)
            with EmptyServer(reply) as empty:
                checked_empty(empty.port, request.SerializeToString(), reply)
                subjects = [
                    Subject(
                        name=name,
                        server=server,
                        body=body,
                        load=load,
                        messages=messages,
                        rpc="SampleStream",
                        reply_bytes=empty.reply_bytes if server is empty else None,
                    )
                    for name, server in [("empty", empty), *((sampler.transport, sampler) for sampler in samplers)]
                ]
                subjects += [
                    Subject(name=f"{sampler.transport} unary", server=sampler, body=one) for sampler in samplers
                ]
                measured = in_turns(subjects, plan, progress)
            size = {"vocab_size": vocab_size, "messages": messages, "measured": measured}
            size["ratios"] = {name: ratio(measured, name, "empty") for name in options.transports}
            size["over_unary"] = {name: ratio(measured, name, f"{name} unary") for name in options.transports}
            sizes.append(size)
    return {"note": NOTE, "plan": asdict(plan), "transports": list(options.transports), "sizes": sizes}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "rows/s", "ratio", "over unary", "batch", "compute us/row", "CPU us/row"]
    rows = []
    for size in result["sizes"]:
        theirs = size["measured"]["empty"]
        for name, over in size["ratios"].items():
            ours = size["measured"][name]
            rows.append(
                [
                    f"V = {size['vocab_size']:,}, {name}",
                    f"{ours['rows_per_s']:,.0f} ({theirs['rows_per_s']:,.0f})",
                    f"{over:.2f}",
                    f"{size['over_unary'][name]:.2f}" if "over_unary" in size else "",
                    f"{ours['mean_batch_rows']:.1f}",
                    f"{ours['compute_us_per_row']:.1f}",
                    f"{ours['cpu_us_per_row']:.0f} ({theirs['cpu_us_per_row']:.0f})",
                ]
            )
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold the ratios against the promises; a result from before unary calls were measured beside says less."""
    for size in result["sizes"]:
        vocab_size = size["vocab_size"]
        if vocab_size in _OVER_EMPTY and "grpcio" in size["ratios"]:
            yield Target(
                what=f"grpcio over an empty stream handler, V = {vocab_size:,}",
                value=size["ratios"]["grpcio"],
                bound=_OVER_EMPTY[vocab_size],
            )
        if vocab_size in _OVER_UNARY and "envoy" in size.get("over_unary", {}):
            yield Target(
                what=f"envoy, rows of a stream over rows of unary calls, V = {vocab_size:,}",
                value=size["over_unary"]["envoy"],
                bound=_OVER_UNARY[vocab_size],
            )


def figure(result: Result) -> Figure:
    """Draw rows per second by vocabulary size, beside the empty handler's."""
    sizes = result["sizes"]
    drawing, axes = plt.subplots(1, len(sizes), figsize=(11, 4), layout="constrained", squeeze=False)
    for size, ax in zip(sizes, axes[0], strict=True):
        series = {
            who: [entry["rows_per_s"] for entry in size["measured"][who]["rounds"]]
            for who in ("empty", *result["transports"])
        }
        bars(ax, series, {name: f"{size['ratios'][name]:.2f}" for name in result["transports"]})
        ax.set_title(f"V = {size['vocab_size']:,}", fontsize=11)
    axes[0][0].set_ylabel("rows per second")
    drawing.suptitle("Served throughput of SampleStream, one f32 row a message; above a bar its ratio")
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
