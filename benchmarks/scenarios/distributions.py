"""Samples per second from a distribution that was uploaded once: in the engine, and served over a stream.

In the engine the same draws are made from the CDF index and from the row itself, in turns, on one thread. Served, a
process of its own reads the chunks of one large draw and looks at nothing but their sizes.
"""

from __future__ import annotations

import multiprocessing
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from benchmarks.plots import COLOURS, OURS, REFERENCE, plt
from benchmarks.scenario import Options, Result, Scenario, Table, Target
from benchmarks.servers import SamplerServer
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import DenseRows, IndexedDraw
from samplerd_server.distributions.segment import Description, SegmentDecoder, open_segment, size_of, write_segment
from samplerd_server.sampling.cdf_index.builder import CdfIndexBuilder
from samplerd_server.sampling.kernels import NumbaSampler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from matplotlib.figure import Figure

    from benchmarks.report import Progress

__all__ = ["SCENARIO"]

VOCAB_SIZE = 1_000_000
DRAWS = 1 << 18
"""In one call of the engine: a chunk of a stream."""
MILLION = 1e6
ENGINE, SERVED = 10.0, 5.0
"""What is promised, in millions of samples a second."""
NOTE = f"one f32 row of {VOCAB_SIZE:,}, with replacement, {DRAWS:,} samples a chunk; millions of samples a second"
CASES: dict[str, tuple[InputKind, SamplingParams]] = {
    "logits": (InputKind.LOGITS, SamplingParams()),
    "weights": (InputKind.PROBABILITIES, SamplingParams()),
    "baked T = 0.8": (InputKind.LOGITS, SamplingParams(temperature=0.8)),
    "baked top_p = 0.9": (InputKind.LOGITS, SamplingParams(top_p=0.9, is_plain=False)),
}


def _numbers(kind: InputKind) -> np.ndarray[Any, np.dtype[np.float32]]:
    numbers = np.random.default_rng(1).normal(0, 2, VOCAB_SIZE).astype(np.float32)
    return np.exp(numbers) if kind is InputKind.PROBABILITIES else numbers


def _engine(name: str, rounds: int) -> Result:
    """Draw a chunk from the CDF index and from the row, in turns."""
    kind, params = CASES[name]
    source = DenseRows(dtype=Dtype.F32, rows=1, vocab_size=VOCAB_SIZE, data=_numbers(kind).tobytes())
    request = SampleRequest(id=1, source=source, params=(params,), kind=kind, num_samples=DRAWS, seed=3)
    batch = pack([request])
    maker, sampler = CdfIndexBuilder(), NumbaSampler(1)
    own = Description(
        name=name, kind=kind, dtype=Dtype.F32, rows=1, vocab_size=VOCAB_SIZE, params=None, ttl_s=1.0, created=0.0
    )
    times: dict[str, list[float]] = {"making": [], "table": [], "row": []}
    samples = np.empty(DRAWS, np.int32)
    for _ in range(rounds):
        began = time.perf_counter()
        plan = maker.plan(batch, kind, params)
        memory = np.zeros(size_of(own, plan), np.uint8)
        write_segment(memory, own, source, plan)
        times["making"].append(time.perf_counter() - began)
        segment = open_segment(memory, SegmentDecoder(params=lambda _: params, cdf_index=maker.open))
        cdf_index = segment.rows.cdf_index
        assert cdf_index is not None, "a distribution without a CDF index. This is a bug."
        draw = IndexedDraw(
            cdf_index=cdf_index,
            first=0,
            seeds=np.array([3], np.uint64),
            indices=np.zeros(1, np.uint32),
            draw_offset=0,
            num_samples=DRAWS,
        )
        began = time.perf_counter()
        cdf_index.draw(draw, samples)
        times["table"].append(time.perf_counter() - began)
        began = time.perf_counter()
        want = sampler.sample(batch).samples
        times["row"].append(time.perf_counter() - began)
        assert (samples == want).all(), "the CDF index draws other ids than the row. This is a bug."
    return {
        "name": name,
        "table": [DRAWS / seconds / MILLION for seconds in times["table"]],
        "row": [DRAWS / seconds / MILLION for seconds in times["row"]],
        "making_ms": 1e3 * median(times["making"]),
        "memory_bytes": segment.size_bytes,
    }


def _read(port: int, samples: int, results: Connection) -> None:
    """Read one large draw; send the seconds from its first chunk to its last, and how many samples came in them."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", (("grpc.max_receive_message_length", -1),)) as channel:
        call: Any = channel.stream_stream("/samplerd.v1.SamplerService/SampleStream")
        request = pb.SampleRequest(
            id=1, distribution="bench", num_samples=samples, seed=3, outputs=pb.Outputs(raw_samples=True)
        )
        size = 0
        began = 0.0
        for message in call(iter([request.SerializeToString()])):
            if began:
                size += len(message)
            else:
                began = time.perf_counter()
            last = message
        results.send((time.perf_counter() - began, size // 4))
        assert pb.SampleResponse.FromString(last).final, "a large draw has no end. This is a bug."


def _served(transport: str, options: Options, rounds: int) -> Result:
    samples = DRAWS * (32 if options.quick else 400)
    rates = []
    with SamplerServer(transport=transport) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            tensor = pb.Tensor(vocab_size=VOCAB_SIZE, data=_numbers(InputKind.LOGITS).tobytes())
            create = pb.CreateDistributionRequest(name="bench", tensor=tensor)
            sampler_pb2_grpc.SamplerServiceStub(channel).CreateDistribution(create)
        context = multiprocessing.get_context("spawn")  # grpc's threads do not survive a fork
        before = server.rss_bytes()
        for _ in range(rounds):
            receiver, sender = context.Pipe(duplex=False)
            reader = context.Process(target=_read, args=(server.port, samples, sender))
            reader.start()
            seconds, read = receiver.recv()
            reader.join()
            rates.append(read / seconds / MILLION)
        after = server.rss_bytes()
    return {"transport": transport, "rates": rates, "samples": samples, "growth_bytes": after - before}


def run(progress: Progress, options: Options) -> Result:
    """Measure the engine, then each transport."""
    rounds = 2 if options.quick else 9
    engine = []
    for name in CASES:
        progress(f"engine: {name}")
        engine.append(_engine(name, rounds))
    served = []
    for transport in options.transports:
        progress(f"served: {transport}")
        served.append(_served(transport, options, 1 if options.quick else 5))
    return {"note": NOTE, "engine": engine, "served": served}


def table(result: Result) -> Table:
    """Lay the figures out: header and rows."""
    header = ["what", "M samples/s", "from the row", "making ms", "MiB"]
    rows = [
        [
            f"engine, {own['name']}",
            f"{median(own['table']):.1f}",
            f"{median(own['row']):.2f}",
            f"{own['making_ms']:.1f}",
            f"{own['memory_bytes'] / 2**20:.1f}",
        ]
        for own in result["engine"]
    ]
    return header, rows + [
        [f"served, {own['transport']}", f"{median(own['rates']):.1f}", "", "", ""] for own in result["served"]
    ]


def targets(result: Result) -> Iterator[Target]:
    """Hold the rates against the promises."""
    for own in result["engine"]:
        what = f"engine, V = {VOCAB_SIZE:,}, {own['name']}"
        yield Target(what=what, value=median(own["table"]), bound=ENGINE, unit="M samples/s")
    for own in result["served"]:
        what = f"{own['transport']}, V = {VOCAB_SIZE:,}, raw samples over a stream"
        yield Target(what=what, value=median(own["rates"]), bound=SERVED, unit="M samples/s")


def figure(result: Result) -> Figure:
    """Draw the rates as bars: from the CDF index, from the row, and served."""
    drawing, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    for at, own in enumerate(result["engine"]):
        ax.bar(at - 0.2, median(own["table"]), 0.4, color=OURS, label="from the CDF index" if at == 0 else None)
        ax.bar(at + 0.2, median(own["row"]), 0.4, color=REFERENCE, label="from the row" if at == 0 else None)
    count = len(result["engine"])
    for at, own in enumerate(result["served"], count):
        ax.bar(at, median(own["rates"]), 0.4, color=COLOURS[own["transport"]])
    names = [own["name"] for own in result["engine"]]
    ax.set_xticks(
        range(count + len(result["served"])), names + [f"served, {own['transport']}" for own in result["served"]]
    )
    ax.tick_params(axis="x", labelrotation=20)
    ax.set_ylabel("million samples per second")
    ax.set_title(f"Draws with replacement from one row of {VOCAB_SIZE:,}", fontsize=12)
    ax.legend(frameon=False)
    return drawing


SCENARIO = Scenario(run=run, table=table, targets=targets, figure=figure)
