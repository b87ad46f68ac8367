"""Rows a second with 8 to 512 calls in flight: does more load mean less work done."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.check import checked_empty, checked_reply
from benchmarks.load import CONNECTIONS, Load, frame, sample_request
from benchmarks.plots import COLOURS, LABELS, plt
from benchmarks.rounds import QUICK, Plan, Subject, in_turns
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import EMPTY, SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZES = (1_024, 32_768)
IN_FLIGHT = (8, 16, 32, 64, 128, 256, 512)
_EMPTY_NAMES = {"grpcio": "empty", "envoy": "empty envoy"}
"""The curve that each transport's is to be seen beside."""
NOTE = f"one f32 row a call, on {CONNECTIONS} connections"


def run(progress: Progress, options: Options) -> Result:
    """Measure every number of calls in flight, in turns."""
    plan = QUICK if options.quick else Plan(seconds=1.2, rounds=3)
    levels = (8, 64, 512) if options.quick else IN_FLIGHT
    curves = []
    with ExitStack() as stack:
        body = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-bench-"))) / "body"
        samplers = [stack.enter_context(SamplerServer(transport=transport)) for transport in options.transports]
        for vocab_size in VOCAB_SIZES:
            request = sample_request(vocab_size)
            body.write_bytes(frame(request.SerializeToString()))
            for sampler in samplers:
                reply = checked_reply(sampler.port, request).SerializeToString()
                with EMPTY[sampler.transport](reply) as empty:
                    checked_empty(empty.port, request.SerializeToString(), reply)
                    for name, server in ((_EMPTY_NAMES[sampler.transport], empty), (sampler.transport, sampler)):
                        progress(f"{name}, V = {vocab_size:,}, {levels[0]} to {levels[-1]} calls in flight")
                        reply_bytes = empty.reply_bytes if server is empty else None
                        subjects = [
                            Subject(
                                name=str(level),
                                server=server,
                                body=body,
                                load=Load(streams=level // CONNECTIONS),
                                reply_bytes=reply_bytes,
                            )
                            for level in levels
                        ]
                        curve = _curve(in_turns(subjects, plan, progress))
                        curves.append({"transport": name, "vocab_size": vocab_size, **curve})
    return {"note": NOTE, "plan": asdict(plan), "curves": curves}


def _curve(measured: dict[str, dict[str, Any]]) -> Result:
    """Give what was measured by calls in flight, and its two ratios."""
    rates = [entry["rows_per_s"] for entry in measured.values()]
    return {
        "in_flight": list(map(int, measured)),
        "measured": measured,
        "lowest_over_highest": min(rates) / max(rates),
        "last_over_highest": rates[-1] / max(rates),
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["in flight", "rows/s", "batch", "p50 ms", "p99 ms"]
    rows = []
    for curve in result["curves"]:
        for level in curve["in_flight"]:
            entry = curve["measured"][str(level)]
            rows.append(
                [
                    f"V = {curve['vocab_size']:,}, {curve['transport']}, {level}",
                    f"{entry['rows_per_s']:,.0f}",
                    f"{entry['mean_batch_rows']:.1f}" if "mean_batch_rows" in entry else "",
                    f"{entry['latency_ms']['p50']:.1f}",
                    f"{entry['latency_ms']['p99']:.1f}",
                ]
            )
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold the lowest rate of each of our curves, and the last, against its highest; beside it, the empty handler's."""
    floors = {(curve["transport"], curve["vocab_size"]): curve for curve in result["curves"]}
    for curve in result["curves"]:
        if curve["transport"] not in _EMPTY_NAMES:
            continue
        floor = floors.get((_EMPTY_NAMES[curve["transport"]], curve["vocab_size"]))
        name = f"{curve['transport']}, V = {curve['vocab_size']:,}"
        few, many = curve["in_flight"][0], curve["in_flight"][-1]
        yield Target(
            what=f"{name}, lowest over highest rate, {few} to {many} in flight",
            empty=floor and floor["lowest_over_highest"],
            value=curve["lowest_over_highest"],
            bound=0.9,
        )
        yield Target(
            what=f"{name}, rate with {many} in flight over the highest",
            empty=floor and floor["last_over_highest"],
            value=curve["last_over_highest"],
            bound=0.9,
        )


def figure(result: Result) -> Figure:
    """Draw rows per second over the calls in flight."""
    sizes = sorted({curve["vocab_size"] for curve in result["curves"]})
    drawing, axes = plt.subplots(1, len(sizes), figsize=(6 * len(sizes), 4.5), layout="constrained", squeeze=False)
    for ax, size in zip(axes[0], sizes, strict=True):
        for curve in result["curves"]:
            if curve["vocab_size"] == size:
                who = curve["transport"]
                rates = [curve["measured"][str(level)]["rows_per_s"] for level in curve["in_flight"]]
                ax.plot(curve["in_flight"], rates, "o-", color=COLOURS[who], label=LABELS[who])
                if who in _EMPTY_NAMES:
                    ax.axhspan(0.9 * max(rates), max(rates), color=COLOURS[who], alpha=0.08)
        ax.set_xscale("log", base=2)
        ax.set_xticks(result["curves"][0]["in_flight"], [str(level) for level in result["curves"][0]["in_flight"]])
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter("{x:,g}")
        ax.set_xlabel("calls in flight")
        ax.set_title(f"V = {size:,}", fontsize=12)
    axes[0][0].set_ylabel("rows per second")
    handles, labels = axes[0][0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    drawing.suptitle("Throughput by load; shaded: within 10 % of a curve's highest")
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
