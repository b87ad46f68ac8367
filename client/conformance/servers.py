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

from client.conformance.large_draws import LargeDraws
from samplerd.v1 import sampler_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PUSHBACK_MS", "REFUSALS", "TOKEN", "NamesOnSocket", "RefusingServer", "Samplerd", "certificate", "samplerd"]

CONNECTIONS = 4
"""How many a client opens for draws from the distribution `connections`."""
_CLIENT_KEY = "x-samplerd-client"
_NAME_LENGTH = 16
"""Hexadecimal digits of 64 random bits."""
_OUTAGE_DRAWS = 62
"""40 calls and the 20 retries of a whole budget; then 11 successes, and one more call with the retry that they gave."""

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


class NamesOnSocket(grpc.GenericRpcHandler):
    """Passes calls on from a Unix socket to a server, and remembers by which names clients asked."""

    def __init__(self, folder: Path, target: str) -> None:
        self.target = f"unix:{folder / 'named.sock'}"
        self._names: set[str] = set()
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_insecure_port(self.target)

    def __enter__(self) -> NamesOnSocket:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Answer any unary call with what the server answers."""

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self._names |= {str(value) for key, value in context.invocation_metadata() if key == _CLIENT_KEY}
            ask = self._channel.unary_unary(details.method, request_serializer=bytes, response_deserializer=bytes)
            return ask(request)

        return grpc.unary_unary_rpc_method_handler(answer)

    def complaint(self) -> str:
        """Say what was wrong with the names since this was asked last; empty: nothing."""
        names, self._names = self._names, set()
        right = names and all(len(name) >= _NAME_LENGTH for name in names)
        return "" if right else f"the client called itself {names or 'nothing'}"


class RefusingServer:
    """Refuses as README.md says, and remembers when it was asked."""

    def __init__(self) -> None:
        self.asked: dict[int, list[float]] = defaultdict(list)
        """When each of the requests came, in seconds."""
        self.metadata: dict[str, str] = {}
        """What the last call about the distribution ``prior`` carried."""
        self.outage = 0
        """Attempts about the distribution ``outage``, all of them refused."""
        self.peers: set[str] = set()
        """Addresses that drew from the distribution ``connections``."""
        self.large = LargeDraws()
        """What is drawn in chunks."""
        self._server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(
            self._sample,
            request_deserializer=pb.SampleRequest.FromString,
            response_serializer=pb.SampleResponse.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler(
            "samplerd.v1.SamplerService", {"Sample": handler, "SampleDistribution": self.large.handler}
        )
        self._server.add_generic_rpc_handlers((generic,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> RefusingServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def _sample(self, request: pb.SampleRequest, context: grpc.ServicerContext) -> pb.SampleResponse:
        if request.distribution == "prior":
            self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
            return pb.SampleResponse(id=request.id, samples=[7], final=True)
        if request.distribution == "left":
            return self.large.wait_until_left(request, context)
        if request.distribution == "outage":
            self.outage += 1
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "nobody is there")
        if request.distribution == "connections":
            self.peers.add(context.peer())
        if request.distribution:
            return pb.SampleResponse(id=request.id, samples=[7], final=True)
        number = request.id if request.id in {1, 2, 3, 4} else request.seed
        times = self.asked[number]
        times.append(time.monotonic())
        if number == 3:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused for good")
        if number == 2:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "-1"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "do not come back")
        if number == 4 and len(times) <= REFUSALS:
            context.abort(grpc.StatusCode.CANCELLED, "cancelled, and not by the caller")
        if len(times) <= REFUSALS:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", str(PUSHBACK_MS)),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back later")
        return pb.SampleResponse(id=request.id, samples=[7], final=True)

    def missing_metadata(self) -> str:
        """Say what a call about a distribution did not carry; empty: nothing."""
        due = {"x-tenant": "conformance", "x-samplerd-distribution": "prior"}
        missing = {key: self.metadata.get(key) for key, value in due.items() if self.metadata.get(key) != value}
        return f"the call carried {missing} in place of {due}" if missing else ""

    def missing_connections(self) -> str:
        """Say how many connections were not used; empty: none."""
        right = len(self.peers) == CONNECTIONS
        return "" if right else f"the draws came over {len(self.peers)} connections, not {CONNECTIONS}"

    def overspent(self) -> str:
        """Say how the budget of retries was kept; empty: to the letter."""
        right = self.outage == _OUTAGE_DRAWS
        return "" if right else f"an outage of 41 calls was asked {self.outage} times, not {_OUTAGE_DRAWS}"

    def complaint(self) -> str:
        """Say what was wrong with how it was asked; empty: nothing."""
        times = self.asked[1]
        if len(times) != REFUSALS + 1:
            return f"request 1 came {len(times)} times, not {REFUSALS + 1}"
        waits = [after - before for before, after in pairwise(times)]
        if min(waits) < PUSHBACK_MS / 1e3:
            return f"request 1 came again after {min(waits):.3f} s, before the pushback"
        if len(self.asked[4]) != REFUSALS + 1:
            return f"request 4, which the server cancelled, came {len(self.asked[4])} times, not {REFUSALS + 1}"
        again = [number for number in (2, 3) if len(self.asked[number]) != 1]
        return f"requests {again} did not come exactly once" if again else ""
