"""Load from h2load: one pre-encoded call, repeated over a few HTTP/2 connections with many calls in flight.

h2load is the lightest gRPC client there is: it repeats bytes and never decodes a reply. It counts HTTP 200 as success
and does not look at grpc-status, so whoever uses this module checks success on the server's side.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CONNECTIONS",
    "SAMPLE_PATH",
    "STREAMS",
    "STREAM_PATH",
    "Load",
    "LoadError",
    "LoadResult",
    "frame",
    "parse_h2load",
    "percentiles_s",
    "run_load",
    "sample_request",
]

SAMPLE_PATH = "/samplerd.v1.SamplerService/Sample"
STREAM_PATH = "/samplerd.v1.SamplerService/SampleStream"
CONNECTIONS = 4
"""HTTP/2 connections."""
STREAMS = 16
"""Calls in flight on each connection: 64 in all, what a busy engine would have."""

_FINISHED = re.compile(r"finished in ([\d.]+)(us|ms|s|m|h), ([\d.]+) req/s")
_REQUESTS = re.compile(
    r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout"
)
_DATA = re.compile(r"traffic: .* \((\d+)\) data")
_UNIT_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class LoadError(RuntimeError):
    """h2load is missing, or did not do what it was asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Which calls to make, and how many at once."""

    path: str = SAMPLE_PATH
    """Where they go."""
    connections: int = CONNECTIONS
    streams: int = STREAMS
    """Calls in flight on each connection."""
    socket_path: Path | None = None
    """A Unix socket to go to, rather than a port of 127.0.0.1."""
    headers: tuple[str, ...] = ("content-type: application/grpc", "te: trailers")
    is_http1: bool = False
    """HTTP/1.1 rather than HTTP/2: one call in flight on a connection."""

    @property
    def in_flight(self) -> int:
        """Calls in flight in all."""
        return self.connections * self.streams


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """One run of h2load."""

    requests: int
    """Calls that were answered with HTTP 200."""
    data_bytes: int
    """Of all replies, without headers."""
    elapsed_s: float
    """From the first call to the last reply."""
    rate: float
    """Calls per second."""
    mean_s: float
    """Mean of a call's time."""
    latency_s: dict[str, float]
    """Percentiles of a call's time by name ("p50"). Closed loop: how long a call took, given those in flight."""


_DTYPES = {"f32": pb.DTYPE_F32, "bf16": pb.DTYPE_BF16}


def sample_request(vocab_size: int, *, rows: int = 1, dtype: str = "f32", seed: int = 1) -> pb.SampleRequest:
    """Make the call that is repeated: rows of normal logits, each drawn once at T = 0.8, unseeded.

    Args:
        vocab_size: V.
        rows: B.
        dtype: "f32" or "bf16" (the upper halves of the same f32).
        seed: of the logits.

    """
    logits = np.random.default_rng(seed).normal(0.0, 3.0, (rows, vocab_size)).astype("<f4")
    data = logits if dtype == "f32" else (logits.view("<u4") >> 16).astype("<u2")
    return pb.SampleRequest(
        id=1,
        params=pb.SamplingParams(temperature=0.8),
        tensor=pb.Tensor(dtype=_DTYPES[dtype], rows=rows, vocab_size=vocab_size, data=data.tobytes()),
    )


def frame(message: bytes) -> bytes:
    """Put gRPC's prefix before a message: a byte that says "not compressed", and the length, big-endian."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def run_load(port: int, body: Path, *, requests: int, load: Load = Load(), timeout_s: float = 600.0) -> LoadResult:
    """Send the call in `body` this many times and wait for all replies.

    Raises:
        LoadError: h2load is missing or failed, or not every call got its HTTP 200.

    """
    program = shutil.which("h2load")
    if program is None:
        raise LoadError("h2load is missing: install Debian's package nghttp2-client")
    with tempfile.TemporaryDirectory(prefix="samplerd-bench-") as folder:
        log = Path(folder) / "requests.tsv"
        command = [
            program,
            f"--requests={requests}",
            f"--clients={min(load.connections, requests)}",
            f"--max-concurrent-streams={load.streams}",
            f"--data={body}",
            f"--log-file={log}",
            *(["--h1"] if load.is_http1 else []),
            *(f"--header={header}" for header in load.headers),
            *([] if load.socket_path is None else [f"--base-uri=unix:{load.socket_path}"]),
            f"http://127.0.0.1:{port}{load.path}",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"h2load did not finish {requests} calls within {timeout_s:g} s") from error
        if done.returncode != 0:
            raise LoadError(f"h2load exited with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        succeeded, elapsed_s, rate, data_bytes = parse_h2load(done.stdout)
        if succeeded != requests:
            raise LoadError(f"h2load sent {requests} calls and {succeeded} were answered:\n{done.stdout}")
        # Columns: start in microseconds since the epoch, HTTP status, microseconds until the end of the reply.
        durations_us = np.loadtxt(log, usecols=2, ndmin=1)
    return LoadResult(
        requests=succeeded,
        data_bytes=data_bytes,
        elapsed_s=elapsed_s,
        rate=rate,
        mean_s=float(durations_us.mean()) * 1e-6,
        latency_s=percentiles_s(durations_us * 1e-6),
    )


def parse_h2load(output: str) -> tuple[int, float, float, int]:
    """Read (calls succeeded, seconds, calls per second, bytes of data received) from what h2load prints.

    Raises:
        LoadError: the lines are not there.

    """
    finished, counted, received = _FINISHED.search(output), _REQUESTS.search(output), _DATA.search(output)
    if finished is None or counted is None or received is None:
        raise LoadError(f"h2load printed no result:\n{output}")
    return int(counted[4]), float(finished[1]) * _UNIT_S[finished[2]], float(finished[3]), int(received[1])


def percentiles_s(durations_s: NDArray[np.float64]) -> dict[str, float]:
    """Take p50, p90, p99 and p99.9: each the smallest duration that at least that share of all do not exceed."""
    ordered = np.sort(durations_s)
    names = {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999}  # per mille, so that ranks are integers
    return {name: float(ordered[(per_mille * len(ordered) + 999) // 1000 - 1]) for name, per_mille in names.items()}
