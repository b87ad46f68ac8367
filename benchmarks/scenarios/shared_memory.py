"""Rows a second of Sample from shared memory, against the same rows in the message, on the same server in turns."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.check import checked_empty, checked_reply
from benchmarks.load import Load, LoadError, frame, sample_request
from benchmarks.plots import bars, plt
from benchmarks.rounds import QUICK, Plan, Subject, in_turns, ratio
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import EMPTY, EmptyEnvoyServer, EmptyServer, SamplerServer
from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import SharedMemoryRegion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZES = (32_768, 131_072)
LOADS = {1: Load(), 32: Load(streams=2)}
"""By rows in a call. With 32, of up to 16 MiB, 8 calls in flight instead of 64 keep the load's own memory small."""
PREFIX = "samplerd-bench-"
PROMISED = 2.0
NOTE = "f32 rows, 1 a call with 64 calls in flight, or 32 a call with 8; in brackets the same rows in the message"


def run(progress: Progress, options: Options) -> Result:
    """Measure every transport, vocabulary size and number of rows."""
    plan = QUICK if options.quick else Plan()
    sizes = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samplerd-")))
        samplers = [
            stack.enter_context(SamplerServer("--shared-memory-prefix", PREFIX, transport=transport))
            for transport in options.transports
        ]
        for vocab_size in VOCAB_SIZES:
            for rows, load in LOADS.items():
                progress(f"V = {vocab_size:,}, {rows} rows a call")
                sent = sample_request(vocab_size, rows=rows)
                with (
                    SharedMemoryRegion(PREFIX, slots=1, slot_bytes=len(sent.tensor.data)) as region,
                    ExitStack() as own,
                ):
                    subjects = _subjects(sent, _in_region(sent, region), samplers, load, folder)
                    subjects += _empty_subjects(subjects, sent, own)
                    measured = in_turns(subjects, plan, progress)
                ratios = {name: ratio(measured, f"{name} shared", f"{name} sent") for name in options.transports}
                floors = {
                    name: ratio(measured, f"empty {name} shared", f"empty {name} sent") for name in options.transports
                }
                sizes.append(
                    {"vocab_size": vocab_size, "rows": rows, "measured": measured, "ratios": ratios, "empty": floors}
                )
    return {"note": NOTE, "plan": asdict(plan), "transports": list(options.transports), "sizes": sizes}


def _in_region(sent: pb.SampleRequest, region: SharedMemoryRegion) -> pb.SampleRequest:
    """Give the same request with its rows in the one slot of a region, where they stay."""
    tensor = sent.tensor
    slot = region.put(np.frombuffer(tensor.data, "<f4").reshape(tensor.rows, tensor.vocab_size))
    return pb.SampleRequest(id=sent.id, params=sent.params, shared_memory=slot.to_proto())


def _subjects(
    sent: pb.SampleRequest, shared: pb.SampleRequest, samplers: list[SamplerServer], load: Load, folder: Path
) -> list[Subject]:
    """Check that both requests draw alike, and give every server under each of them.

    Raises:
        LoadError: they do not.

    """
    subjects = []
    for sampler in samplers:
        drawn = []
        for name, request in (("sent", sent), ("shared", shared)):
            seeded = pb.SampleRequest(seed=1)
            seeded.MergeFrom(request)
            drawn.append(list(checked_reply(sampler.port, seeded).samples))
            body = folder / name
            body.write_bytes(frame(request.SerializeToString()))
            name = f"{sampler.transport} {name}"  # noqa: PLW2901  # the same name, and whose
            subjects.append(Subject(name=name, server=sampler, body=body, load=load, rows=sent.tensor.rows))
        if drawn[0] != drawn[1]:
            raise LoadError(f"the rows drew {drawn[0]} as a message and {drawn[1]} from shared memory")
    return subjects


def _empty_subjects(subjects: list[Subject], sent: pb.SampleRequest, stack: ExitStack) -> list[Subject]:
    """Give every transport's empty handler under the same calls: what leaving the rows out brings by itself."""
    empty = []
    for subject in subjects:
        transport, _, kind = subject.name.partition(" ")
        if kind == "sent":
            reply = checked_reply(subject.server.port, sent).SerializeToString()
            server: EmptyServer | EmptyEnvoyServer = EMPTY[transport](reply)
            stack.enter_context(server)
            checked_empty(server.port, sent.SerializeToString(), reply)
        empty.append(replace(subject, name=f"empty {subject.name}", server=server, reply_bytes=server.reply_bytes))
    return empty


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["", "rows/s", "ratio", "empty's", "CPU us/row", "p50 ms", "p99 ms"]
    rows = []
    for size in result["sizes"]:
        for name, over in size["ratios"].items():
            shared, sent = size["measured"][f"{name} shared"], size["measured"][f"{name} sent"]
            rows.append(
                [
                    f"{_title(size)}, {name}",
                    f"{shared['rows_per_s']:,.0f} ({sent['rows_per_s']:,.0f})",
                    f"{over:.2f}",
                    f"{size['empty'][name]:.2f}" if "empty" in size else "",
                    f"{shared['cpu_us_per_row']:.0f} ({sent['cpu_us_per_row']:.0f})",
                    f"{shared['latency_ms']['p50']:.1f} ({sent['latency_ms']['p50']:.1f})",
                    f"{shared['latency_ms']['p99']:.1f} ({sent['latency_ms']['p99']:.1f})",
                ]
            )
    return header, rows


def _title(size: Result) -> str:
    return f"V = {size['vocab_size']:,}, {size['rows']} a call"


def targets(result: Result) -> Iterable[Target]:
    """Hold every ratio against the promise."""
    for size in result["sizes"]:
        for name, over in size["ratios"].items():
            yield Target(
                what=f"shared memory over the wire, {_title(size)}, {name}",
                empty=size["empty"][name] if "empty" in size else None,
                value=over,
                bound=PROMISED,
            )


def figure(result: Result) -> Figure:
    """Draw the rate from shared memory as a multiple of the message's, every round a dot."""
    sizes = result["sizes"]
    drawing, axes = plt.subplots(1, len(sizes), figsize=(10, 4), layout="constrained", squeeze=False, sharey=True)
    for size, ax in zip(sizes, axes[0], strict=True):
        rounds = {name: [entry["rows_per_s"] for entry in own["rounds"]] for name, own in size["measured"].items()}
        series = {
            who: [shared / sent for shared, sent in zip(rounds[f"{who} shared"], rounds[f"{who} sent"], strict=True)]
            for who in result["transports"]
        }
        bars(ax, series, {name: f"{size['ratios'][name]:.2f}" for name in series})
        ax.axhline(1, color="black", linewidth=0.8)
        ax.set_title(_title(size), fontsize=11)
    axes[0][0].set_ylabel("rows/s from shared memory / in the message")
    drawing.suptitle("Rows in shared memory against rows in the message, f32")
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
