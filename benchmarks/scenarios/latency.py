"""How long a call takes at half and at four fifths of what the server can do, from its intended start.

First the capacity: the rate with 64 calls in flight. Then calls begin by a schedule at a share of it, whether or not
earlier ones were answered (`benchmarks.open_loop`), the subjects in turns; the latencies of all rounds are one sample.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.check import checked_empty, checked_reply, expect_all_ok
from benchmarks.load import frame, percentiles_s, sample_request
from benchmarks.open_loop import Outcome, even, poisson, send_on_schedule
from benchmarks.plots import COLOURS, LABELS, plt
from benchmarks.rounds import QUICK, Plan, Subject, in_turns
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.scrape import read_metrics
from benchmarks.servers import EMPTY, SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from benchmarks.report import Progress
    from benchmarks.servers import ServerProcess

__all__ = ["SCENARIO"]

VOCAB_SIZES = (1_024, 32_768)
SCHEDULES = ((0.5, "even"), (0.8, "even"), (0.5, "poisson"))
"""Shares of the capacity, and how starts are spread: at equal distances, or as those of independent callers are."""
NOTE = "one f32 row a call, milliseconds from the intended start; lag: how late the generator itself began"
_P99_OVER_P50 = 3.0
_HELD = (32_768, 0.5, "even")
"""The size, the share and the schedule that the promise is of."""
_CURVE = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
"""Where the picture's curves are sampled."""


def run(progress: Progress, options: Options) -> Result:
    """Measure capacities, then latencies below them."""
    plan = QUICK if options.quick else Plan(seconds=1.5, rounds=3)
    seconds, rounds = (1.0, 1) if options.quick else (3.0, 3)
    cells: list[Result] = []
    with ExitStack() as stack:
        body = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-bench-"))) / "body"
        samplers = [stack.enter_context(SamplerServer(transport=transport)) for transport in options.transports]
        for vocab_size in VOCAB_SIZES:
            request = sample_request(vocab_size)
            message = request.SerializeToString()
            body.write_bytes(frame(message))
            reply = next(checked_reply(sampler.port, request) for sampler in samplers).SerializeToString()
            with ExitStack() as empties:
                servers: list[tuple[str, ServerProcess]] = []
                for sampler in samplers:
                    empty = empties.enter_context(EMPTY[sampler.transport](reply))
                    checked_empty(empty.port, message, reply)
                    name = "empty" if sampler.transport == "grpcio" else f"empty {sampler.transport}"
                    servers += [(name, empty), (sampler.transport, sampler)]
                subjects = [Subject(name=name, server=server, body=body) for name, server in servers]
                progress(f"V = {vocab_size:,}: capacity")
                capacity = {name: entry["rows_per_s"] for name, entry in in_turns(subjects, plan, progress).items()}
                for share, spread in SCHEDULES:
                    progress(f"V = {vocab_size:,}: {100 * share:.0f} % of it, {spread}")
                    outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
                    for number in range(rounds):
                        for subject in subjects:
                            rate = share * capacity[subject.name]
                            starts = even(rate, seconds) if spread == "even" else poisson(rate, seconds, seed=number)
                            outcomes[subject.name].append(_send(subject, message, starts))
                    for name, own in outcomes.items():
                        cell = {"vocab_size": vocab_size, "name": name, "share": share, "spread": spread}
                        cells.append({**cell, "capacity": capacity[name], **_figures(own)})
                        shown = ", ".join(f"{key} {ms:.2f}" for key, ms in cells[-1]["latency_ms"].items())
                        progress(f"  {name}, {cells[-1]['rate']:,.0f}/s: {shown} ms")
    return {"note": NOTE, "plan": asdict(plan), "seconds": seconds, "rounds": rounds, "cells": cells}


def _send(subject: Subject, message: bytes, starts: np.ndarray) -> Outcome:
    server = subject.server
    if not isinstance(server, SamplerServer):
        return send_on_schedule(server.port, message, starts)
    before = read_metrics(server.metrics_url)
    outcome = send_on_schedule(server.port, message, starts)
    expect_all_ok(read_metrics(server.metrics_url) - before, len(starts))
    return outcome


def _figures(outcomes: list[Outcome]) -> Result:
    latencies = np.concatenate([outcome.latencies_s for outcome in outcomes])
    lags = np.concatenate([outcome.lags_s for outcome in outcomes])
    percentiles, lag = percentiles_s(latencies), percentiles_s(lags)
    return {
        "calls": len(latencies),
        "rate": len(latencies) / sum(outcome.elapsed_s for outcome in outcomes),
        "latency_ms": {name: 1e3 * value for name, value in percentiles.items()},
        "lag_ms": {name: 1e3 * value for name, value in lag.items()},
        "p99_over_p50": percentiles["p99"] / percentiles["p50"],
        "curve_ms": [float(1e3 * value) for value in np.quantile(latencies, _CURVE)],
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "calls/s", "p50", "p90", "p99", "p99.9", "p99/p50", "lag p50", "lag p99"]
    rows = [
        [
            f"V = {cell['vocab_size']:,}, {100 * cell['share']:.0f} % {cell['spread']}, {cell['name']}",
            f"{cell['rate']:,.0f}",
            *(f"{cell['latency_ms'][name]:.2f}" for name in ("p50", "p90", "p99", "p99.9")),
            f"{cell['p99_over_p50']:.1f}",
            f"{cell['lag_ms']['p50']:.2f}",
            f"{cell['lag_ms']['p99']:.2f}",
        ]
        for cell in result["cells"]
    ]
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold p99 at half the capacity against p50; beside it, the empty handler's."""
    held = [cell for cell in result["cells"] if (cell["vocab_size"], cell["share"], cell["spread"]) == _HELD]
    empty = {cell["name"]: cell["p99_over_p50"] for cell in held}
    beside = {"grpcio": empty.get("empty"), "envoy": empty.get("empty envoy")}
    for cell in held:
        if cell["name"] in beside:
            yield Target(
                what=f"{cell['name']}, p99 over p50 at 50 % of capacity, V = {cell['vocab_size']:,}",
                empty=beside[cell["name"]],
                value=cell["p99_over_p50"],
                bound=_P99_OVER_P50,
                at_most=True,
            )


def figure(result: Result) -> Figure:
    """Draw latency over percentile, a panel for each size and schedule."""
    panels = list(dict.fromkeys((cell["vocab_size"], cell["share"], cell["spread"]) for cell in result["cells"]))
    sizes = list(dict.fromkeys(size for size, _, _ in panels))
    columns = len(panels) // len(sizes)
    drawing, axes = plt.subplots(
        len(sizes), columns, figsize=(5 * columns, 3.8 * len(sizes)), layout="constrained", squeeze=False, sharey="row"
    )
    nines = [1 / (1 - quantile) for quantile in _CURVE]
    for ax, panel in zip(axes.flat, panels, strict=True):
        for cell in result["cells"]:
            if (cell["vocab_size"], cell["share"], cell["spread"]) == panel:
                colour, label = COLOURS[cell["name"]], LABELS[cell["name"]]
                ax.plot(nines, cell["curve_ms"], "o-", color=colour, markersize=3, label=label)
        size, share, spread = panel
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks([2, 10, 100, 1000], ["p50", "p90", "p99", "p99.9"])
        ax.minorticks_off()
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_title(f"V = {size:,}, {100 * share:.0f} % of capacity, {spread}", fontsize=11)
    for row in axes:
        row[0].set_ylabel("ms from the intended start")
    handles, labels = axes[0][0].get_legend_handles_labels()
    drawing.legend(handles, labels, frameon=False, ncols=len(labels), loc="outside lower center")
    drawing.suptitle("Latency below saturation, one f32 row a call")
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
