"""Rows a second of Sample over both transports, against an empty handler fed the same bytes.

All servers run at once and are loaded in turns (`benchmarks.rounds`), f32 and bf16 in the same round.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.check import checked_empty, checked_reply
from benchmarks.load import Load, frame, sample_request
from benchmarks.plots import bars, plt
from benchmarks.rounds import QUICK, Plan, Subject, in_turns, ratio
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import EmptyServer, SamplerServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

NOTE = "in brackets the empty grpc.aio handler; everything, the load too, on this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a call carries."""

    vocab_size: int
    rows: int = 1
    dtypes: tuple[str, ...] = ("f32", "bf16")
    load: Load = field(default_factory=Load)


SHAPES = (
    Shape(vocab_size=1_024),
    Shape(vocab_size=32_768),
    Shape(vocab_size=131_072),
    Shape(vocab_size=1_024, rows=32),
    # 4 and 16 MiB a call; fewer at once, so that what is in flight stays a quarter of the queue's bound.
    Shape(vocab_size=32_768, rows=32, dtypes=("f32",)),
    Shape(vocab_size=131_072, rows=32, dtypes=("f32",), load=Load(streams=4)),
)
_SINGLE_BOUNDS = {
    "grpcio": {1_024: 0.8, 32_768: 0.85, 131_072: 0.85},
    "envoy": {1_024: 2.5, 32_768: 1.4, 131_072: 1.0},
}
_MANY_BOUNDS = {"grpcio": 0.85, "envoy": 1.4}
_BF16_BOUND = 1.4


def run(progress: Progress, options: Options) -> Result:
    """Measure every shape."""
    plan = QUICK if options.quick else Plan()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-bench-")))
        samplers = [stack.enter_context(SamplerServer(transport=transport)) for transport in options.transports]
        shapes = [_measure(shape, samplers, folder, plan, progress) for shape in SHAPES]
    return {"note": NOTE, "plan": asdict(plan), "transports": list(options.transports), "shapes": shapes}


def _measure(shape: Shape, samplers: list[SamplerServer], folder: Path, plan: Plan, progress: Progress) -> Result:
    requests = {
        dtype: sample_request(shape.vocab_size, rows=shape.rows, dtype=dtype).SerializeToString()
        for dtype in shape.dtypes
    }
    replies = [
        checked_reply(sampler.port, sample_request(shape.vocab_size, rows=shape.rows, dtype=dtype))
        for sampler in samplers
        for dtype in shape.dtypes
    ]
    progress(f"V = {shape.vocab_size:,}, {shape.rows} rows a call, {shape.load.in_flight} calls in flight")
    with EmptyServer(replies[0].SerializeToString()) as empty:
        subjects = []
        for dtype, request in requests.items():
            checked_empty(empty.port, request, replies[0].SerializeToString())
            body = folder / dtype
            body.write_bytes(frame(request))
            for name, server in [("empty", empty), *((sampler.transport, sampler) for sampler in samplers)]:
                subjects.append(
                    Subject(
                        name=f"{name} {dtype}",
                        server=server,
                        body=body,
                        load=shape.load,
                        rows=shape.rows,
                        reply_bytes=empty.reply_bytes if server is empty else None,
                    )
                )
        measured = in_turns(subjects, plan, progress)
    names = [sampler.transport for sampler in samplers]
    return {
        "vocab_size": shape.vocab_size,
        "rows": shape.rows,
        "in_flight": shape.load.in_flight,
        "request_bytes": {dtype: len(request) for dtype, request in requests.items()},
        "measured": measured,
        "ratios": {
            f"{name} {dtype}": ratio(measured, f"{name} {dtype}", f"empty {dtype}")
            for name in names
            for dtype in requests
        },
        "bf16_over_f32": {name: ratio(measured, f"{name} bf16", f"{name} f32") for name in names if "bf16" in requests},
    }


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "rows/s", "ratio", "batch", "compute us/row", "CPU us/row", "p50 ms", "p99 ms"]
    rows = []
    for shape in result["shapes"]:
        for name, over in shape["ratios"].items():
            ours, theirs = shape["measured"][name], shape["measured"][f"empty {name.partition(' ')[2]}"]
            rows.append(
                [
                    f"V = {shape['vocab_size']:,}, {shape['rows']} a call, {name}",
                    f"{ours['rows_per_s']:,.0f} ({theirs['rows_per_s']:,.0f})",
                    f"{over:.2f}",
                    f"{ours['mean_batch_rows']:.1f}",
                    f"{ours['compute_us_per_row']:.1f}",
                    f"{ours['cpu_us_per_row']:.0f} ({theirs['cpu_us_per_row']:.0f})",
                    f"{ours['latency_ms']['p50']:.1f} ({theirs['latency_ms']['p50']:.1f})",
                    f"{ours['latency_ms']['p99']:.1f} ({theirs['latency_ms']['p99']:.1f})",
                ]
            )
    return header, rows


def targets(result: Result) -> Iterator[Target]:
    """Hold the ratios against the promises."""
    for shape in result["shapes"]:
        size, transports = shape["vocab_size"], result["transports"]
        if shape["rows"] == 1:
            for name in transports:
                yield Target(
                    what=f"{name} over the empty handler, one f32 row of {size:,} a call",
                    value=shape["ratios"][f"{name} f32"],
                    bound=_SINGLE_BOUNDS[name][size],
                )
        elif size == 1_024:
            for name in transports:
                yield Target(
                    what=f"{name} over the empty handler, {shape['rows']} f32 rows of {size:,} a call",
                    value=shape["ratios"][f"{name} f32"],
                    bound=_MANY_BOUNDS[name],
                )
        if shape["rows"] == 1 and size == 131_072:
            beside = {"grpcio": ratio(shape["measured"], "empty bf16", "empty f32")}
            for name in transports:
                yield Target(
                    what=f"{name}, bf16 rows over f32 rows, V = {size:,}",
                    empty=beside.get(name),
                    value=shape["bf16_over_f32"][name],
                    bound=_BF16_BOUND,
                )


def figure(result: Result) -> Figure:
    """Draw rows per second beside the empty handler's, a panel for each shape of a call, every round a dot."""
    kinds = [("f32", 1), ("bf16", 1), ("f32", 32)]
    sizes = list(dict.fromkeys(shape["vocab_size"] for shape in result["shapes"]))
    drawing, axes = plt.subplots(len(kinds), len(sizes), figsize=(11, 10), layout="constrained", squeeze=False)
    shapes = {(shape["vocab_size"], shape["rows"]): shape for shape in result["shapes"]}
    for (dtype, rows), line in zip(kinds, axes, strict=True):
        for size, ax in zip(sizes, line, strict=True):
            shape = shapes[size, rows]
            series = {
                who: [entry["rows_per_s"] for entry in shape["measured"][f"{who} {dtype}"]["rounds"]]
                for who in ("empty", *result["transports"])
            }
            bars(ax, series, {name: f"{shape['ratios'][f'{name} {dtype}']:.2f}" for name in result["transports"]})
            count = "one row" if rows == 1 else f"{rows} rows"
            ax.set_title(f"{count} of {size:,}, {dtype}", fontsize=11)
        line[0].set_ylabel("rows per second")
    drawing.suptitle("Served throughput of Sample; above a bar its ratio to the empty grpc.aio handler")
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
