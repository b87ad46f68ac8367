"""Rows a second of Sample over a Unix socket, against the same server's TCP port in the same run."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.check import checked_empty, checked_reply
from benchmarks.load import Load, frame, sample_request
from benchmarks.plots import bars, plt
from benchmarks.rounds import QUICK, Plan, Subject, in_turns, ratio
from benchmarks.scenario import Options, Result, Scenario, Table
from benchmarks.servers import EmptyServer, SamplerServer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZES = (1_024, 32_768)
NOTE = "one f32 row a call, 64 calls in flight; in brackets TCP over the loopback device"


def run(progress: Progress, options: Options) -> Result:
    """Measure every vocabulary size."""
    plan = QUICK if options.quick else Plan(seconds=1.2)
    sizes = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-")))
        body = folder / "body"
        samplers = [
            stack.enter_context(SamplerServer(transport=transport, socket_path=folder / transport))
            for transport in options.transports
        ]
        for vocab_size in VOCAB_SIZES:
            progress(f"V = {vocab_size:,}")
            request = sample_request(vocab_size)
            reply = next(checked_reply(sampler.port, request) for sampler in samplers).SerializeToString()
            body.write_bytes(frame(request.SerializeToString()))
            with EmptyServer(reply, socket_path=folder / "empty") as empty:
                checked_empty(empty.port, request.SerializeToString(), reply)
                subjects = []
                for name, server in [("empty", empty), *((sampler.transport, sampler) for sampler in samplers)]:
                    reply_bytes = empty.reply_bytes if server is empty else None
                    for way, load in (("tcp", Load()), ("unix", Load(socket_path=folder / name))):
                        subjects.append(
                            Subject(name=f"{name} {way}", server=server, body=body, load=load, reply_bytes=reply_bytes)
                        )
                measured = in_turns(subjects, plan, progress)
            ratios = {name: ratio(measured, f"{name} unix", f"{name} tcp") for name in ("empty", *options.transports)}
            sizes.append({"vocab_size": vocab_size, "measured": measured, "ratios": ratios})
    return {"note": NOTE, "plan": asdict(plan), "transports": list(options.transports), "sizes": sizes}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "rows/s", "ratio", "CPU us/row", "p50 ms", "p99 ms"]
    rows = []
    for size in result["sizes"]:
        for name, over in size["ratios"].items():
            unix, tcp = size["measured"][f"{name} unix"], size["measured"][f"{name} tcp"]
            rows.append(
                [
                    f"V = {size['vocab_size']:,}, {name}",
                    f"{unix['rows_per_s']:,.0f} ({tcp['rows_per_s']:,.0f})",
                    f"{over:.2f}",
                    f"{unix['cpu_us_per_row']:.0f} ({tcp['cpu_us_per_row']:.0f})",
                    f"{unix['latency_ms']['p50']:.1f} ({tcp['latency_ms']['p50']:.1f})",
                    f"{unix['latency_ms']['p99']:.1f} ({tcp['latency_ms']['p99']:.1f})",
                ]
            )
    return header, rows


def figure(result: Result) -> Figure:
    """Draw the rate over the Unix socket as a multiple of TCP's, every round a dot."""
    sizes = result["sizes"]
    drawing, axes = plt.subplots(1, len(sizes), figsize=(8, 4), layout="constrained", squeeze=False, sharey=True)
    for size, ax in zip(sizes, axes[0], strict=True):
        rounds = {name: [entry["rows_per_s"] for entry in own["rounds"]] for name, own in size["measured"].items()}
        series = {
            who: [unix / tcp for unix, tcp in zip(rounds[f"{who} unix"], rounds[f"{who} tcp"], strict=True)]
            for who in ("empty", *result["transports"])
        }
        bars(ax, series, {name: f"{size['ratios'][name]:.2f}" for name in series})
        ax.axhline(1, color="black", linewidth=0.8)
        ax.set_title(f"V = {size['vocab_size']:,}", fontsize=11)
    axes[0][0].set_ylabel("rows/s over a Unix socket / over TCP")
    drawing.suptitle("A Unix socket against TCP, one f32 row a call, 64 in flight")
    return drawing


SCENARIO = Scenario(run=run, table=table, figure=figure)
