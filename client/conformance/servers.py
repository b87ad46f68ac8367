"""What runners talk to: samplerd without and with TLS, and a server that refuses and counts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import grpc

from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PUSHBACK_MS", "REFUSALS", "TOKEN", "RefusingServer", "Samplerd", "certificate", "samplerd"]

TOKEN = "the-right-one"  # noqa: S105  # of servers that live for a minute
PUSHBACK_MS = 100
REFUSALS = 2
"""How often request 1 is refused before it is answered."""
_START_S = 240.0
_STOP_S = 60.0
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


class Samplerd(NamedTuple):
    """A running samplerd."""

    target: str
    metrics_url: str

    def total(self, series: str) -> float:
        """Add up all series of the metrics whose line begins so."""
        with urllib.request.urlopen(self.metrics_url, timeout=30) as reply:  # noqa: S310  # our own URL
            lines = reply.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


@contextmanager
def samplerd(*flags: str) -> Iterator[Samplerd]:
    """Start one on free ports, and stop it by its own process id.

    Raises:
        RuntimeError: it did not start, or did not end well.

    """
    command = [sys.executable, "-m", "samplerd_server", "--log-format", "json"]
    command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *flags]
    with (
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        serving = pool.submit(_await_serving, process)
        try:
            event = serving.result(_START_S)
            pool.submit(_drain, process)
            yield Samplerd(event["listen"].split(",")[0], f"http://{event['metrics']}/metrics")
        finally:
            process.terminate()
            code = process.wait(_STOP_S)
    if code != 0:
        raise RuntimeError(f"samplerd ended with {code}")


def _await_serving(process: subprocess.Popen[bytes]) -> dict[str, str]:
    assert process.stderr is not None, "a pipe was asked for. This is a bug."
    told = []
    for line in process.stderr:
        told.append(line.decode())
        if line.startswith(b"{"):
            event: dict[str, str] = json.loads(line)
            if event["message"] == "serving":
                return event
    raise RuntimeError("samplerd did not start:\n" + "".join(told))


def _drain(process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None, "a pipe was asked for. This is a bug."
    for _ in process.stderr:
        pass


def certificate(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Make an authority and a certificate of localhost; returns the authority's and a server's flags."""
    ca, ca_key, pair, key, request = (folder / name for name in ("ca.pem", "ca-key.pem", "s.pem", "s-key.pem", "s.csr"))
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    _openssl("req", "-x509", *_CURVE, "-subj", "/CN=conformance", "-out", ca, "-keyout", ca_key)
    _openssl("req", *_CURVE, "-subj", "/CN=localhost", "-addext", names, "-out", request, "-keyout", key)
    signing = ("-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2")
    _openssl("x509", "-req", *signing, "-copy_extensions", "copy", "-out", pair)
    tokens = folder / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    return ca, ("--tls-cert", str(pair), "--tls-key", str(key), "--token-file", str(tokens))


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class RefusingServer:
    """Refuses as README.md says, and remembers when it was asked."""

    def __init__(self) -> None:
        self.asked: dict[int, list[float]] = defaultdict(list)
        """When each of the requests came, in seconds."""
        self._server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(
            self._sample,
            request_deserializer=pb.SampleRequest.FromString,
            response_serializer=pb.SampleResponse.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler("samplerd.v1.SamplerService", {"Sample": handler})
        self._server.add_generic_rpc_handlers((generic,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> RefusingServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def _sample(self, request: pb.SampleRequest, context: grpc.ServicerContext) -> pb.SampleResponse:
        number = request.id if request.id in {1, 2, 3} else request.seed
        times = self.asked[number]
        times.append(time.monotonic())
        if number == 3:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused for good")
        if number == 2:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "-1"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "do not come back")
        if len(times) <= REFUSALS:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", str(PUSHBACK_MS)),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back later")
        return pb.SampleResponse(id=request.id, samples=[7], final=True)

    def complaint(self) -> str:
        """Say what was wrong with how it was asked; empty: nothing."""
        times = self.asked[1]
        if len(times) != REFUSALS + 1:
            return f"request 1 came {len(times)} times, not {REFUSALS + 1}"
        waits = [after - before for before, after in pairwise(times)]
        if min(waits) < PUSHBACK_MS / 1e3:
            return f"request 1 came again after {min(waits):.3f} s, before the pushback"
        again = [number for number in (2, 3) if len(self.asked[number]) != 1]
        return f"requests {again} did not come exactly once" if again else ""
