"""Rows per second that a server draws on a device: whole calls over loopback, always as many in flight."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from benchmarks.check import expect_all_ok
from benchmarks.gpu.card import logits
from benchmarks.http2 import Connection, header_block
from benchmarks.load import SAMPLE_PATH, LoadError, frame, percentiles_s
from benchmarks.scrape import read_metrics
from benchmarks.servers import SamplerServer
from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.scrape import Reading

__all__ = ["CASES", "DEVICES", "Case", "measure_served"]

CONNECTIONS = 4
IN_FLIGHT = 16
"""Calls in flight on each connection."""
CALLS = 2_000
_PATIENCE_S = 60.0
"""Longest that the benchmark waits for any reply."""
_DTYPES = {"f32": pb.DTYPE_F32, "bf16": pb.DTYPE_BF16}
_NAME = "bench"


@dataclass(frozen=True, slots=True)
class Case:
    """A call that is made over and over."""

    rows: int
    width: int
    dtype: str
    parameters: dict[str, Any]
    is_uploaded: bool = False
    """Whether it draws from an uploaded distribution, which a card keeps."""

    @property
    def name(self) -> str:
        """As it is printed."""
        own = ", ".join(f"{name} {value:g}" for name, value in self.parameters.items()) or "plain"
        return f"{self.rows} x {self.width} {self.dtype}, {own}{', uploaded' if self.is_uploaded else ''}"

    def tensor(self) -> pb.Tensor:
        """Make its rows."""
        data = logits(self.rows, self.width, self.dtype)
        return pb.Tensor(dtype=_DTYPES[self.dtype], rows=self.rows, vocab_size=self.width, data=data)

    def request(self) -> pb.SampleRequest:
        """Make the call."""
        own = pb.SampleRequest(id=1, params=pb.SamplingParams(temperature=0.8, **self.parameters))
        if self.is_uploaded:
            own.distribution = _NAME
        else:
            own.tensor.CopyFrom(self.tensor())
        return own


CASES = (
    Case(1, 32_768, "f32", {}),
    Case(16, 32_768, "f32", {"top_p": 0.9}),
    Case(16, 131_072, "bf16", {"top_k": 50, "top_p": 0.9}),
    Case(16, 131_072, "f32", {"typical_p": 0.9}),
    Case(16, 131_072, "f32", {"typical_p": 0.9}, is_uploaded=True),
)
DEVICES: dict[str, tuple[str, ...]] = {"cuda": ("--device", "cuda", "--kernel", "cuda"), "cpu": ("--device", "cpu")}
"""The flags of the servers that are compared."""


def measure_served(cases: Sequence[Case]) -> dict[str, dict[str, dict[str, float]]]:
    """Call a server on each device; returns by case and by device what was counted.

    ``rows_per_s``; ``p50_ms`` and ``p99_ms`` of calls; ``cpu_us``, the server's processor time a row; ``batches`` that
    it formed; and ``launches`` of kernels and ``copied_bytes``, of all calls together.

    Raises:
        LoadError: a call was not answered, or not with what was asked for.

    """
    times: dict[str, dict[str, dict[str, float]]] = {case.name: {} for case in cases}
    for device, flags in DEVICES.items():
        with SamplerServer(*flags) as server:
            for case in cases:
                times[case.name][device] = _measure(server, case)
    return times


def _measure(server: SamplerServer, case: Case) -> dict[str, float]:
    if case.is_uploaded:
        _upload(server.port, case)
    message = case.request().SerializeToString()
    _call(server.port, message, min(CALLS, 4 * IN_FLIGHT))  # compiles, and lets a card keep what was uploaded
    before, cpu_s = read_metrics(server.metrics_url), server.cpu_s()
    durations, elapsed_s = _call(server.port, message, CALLS)
    grown, cpu_s = read_metrics(server.metrics_url) - before, server.cpu_s() - cpu_s
    expect_all_ok(grown, CALLS, rows=CALLS * case.rows)
    latency = percentiles_s(durations)
    return {
        "rows_per_s": CALLS * case.rows / elapsed_s,
        "p50_ms": latency["p50"] * 1e3,
        "p99_ms": latency["p99"] * 1e3,
        "cpu_us": cpu_s / (CALLS * case.rows) * 1e6,
        "batches": grown.total("samplerd_batches_total"),
        "launches": _of_card(grown, "samplerd_device_launches_total"),
        "copied_bytes": _of_card(grown, "samplerd_device_copied_bytes_total"),
    }


def _of_card(grown: Reading, name: str) -> float:
    """Read a metric that only a server on a card has."""
    try:
        return grown.total(name)
    except KeyError:
        return 0.0


def _upload(port: int, case: Case) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = sampler_pb2_grpc.SamplerServiceStub(channel)
        stub.CreateDistribution(pb.CreateDistributionRequest(name=_NAME, tensor=case.tensor()), timeout=_PATIENCE_S)


def _call(port: int, message: bytes, calls: int) -> tuple[NDArray[np.float64], float]:
    """Make so many calls, as many at a time as there may be; returns how long each took and all took, in seconds."""
    block, body = header_block(SAMPLE_PATH, f"127.0.0.1:{port}"), frame(message)
    links = [Connection(port, block, body) for _ in range(CONNECTIONS)]
    began, durations, made, done = time.perf_counter(), np.zeros(calls), 0, 0
    try:
        for _ in range(IN_FLIGHT):
            for link in links:
                if made < calls:
                    durations[made] = -time.perf_counter()
                    link.submit(made)
                    made += 1
        while done < calls:
            for link in links:
                link.send()
            waiting = [link for link in links if link.wants_to_write]
            ready, writable, _ = select.select(links, waiting, [], _PATIENCE_S)
            if not ready and not writable:
                raise LoadError(f"no call was answered within {_PATIENCE_S:g} s")
            for link in ready:
                for number in link.receive():
                    durations[number] += time.perf_counter()
                    done += 1
                    if made < calls:
                        durations[made] = -time.perf_counter()
                        link.submit(made)
                        made += 1
        if any(link.refused for link in links):
            raise LoadError("some calls were refused")
    finally:
        for link in links:
            link.close()
    return durations, time.perf_counter() - began
