"""A collector of traces: takes OTLP over HTTP, and gives the spans of calls by the ids of their traces.

What arrives is kept as it is and read at the end, so that a run is hardly disturbed by its own traces.
"""

from __future__ import annotations

import gzip
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.load import LoadError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["CallSpan", "Collector"]

_WAIT_S = 30.0
"""OpenTelemetry sends what it has every five seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpan:
    """When things happened to one call in the server, in seconds since the epoch."""

    began_s: float
    """The transport had the call."""
    events_s: dict[str, float]
    """The last event of each name."""
    compute_s: float
    """How long its batch was computed; 0 = it has no event of that."""
    ended_s: float


class Collector:
    """Listens on a free port of 127.0.0.1; ``with Collector() as collector:``."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name is http.server's
                body = self.rfile.read(int(self.headers["content-length"]))
                is_zipped = self.headers.get("content-encoding") == "gzip"
                outer._bodies.append(gzip.decompress(body) if is_zipped else body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        """What ``--trace-endpoint`` takes."""
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, trace_ids: Iterable[int]) -> dict[int, CallSpan]:
        """Wait for the spans of these traces, forget all others, and give them by the ids of their traces.

        Raises:
            LoadError: some have not come long after a server must have sent them.

        """
        wanted, found = set(trace_ids), dict[int, CallSpan]()
        give_up = time.monotonic() + _WAIT_S
        while wanted - set(found):
            while self._bodies:
                found |= _read(self._bodies.pop())
            if time.monotonic() > give_up:
                missing = len(wanted - set(found))
                raise LoadError(f"{missing} of {len(wanted)} spans have not come after {_WAIT_S:g} s")
            time.sleep(0.05)
        return {trace_id: found[trace_id] for trace_id in wanted}


def _read(body: bytes) -> dict[int, CallSpan]:
    """Give the spans in one request that an RPC began; those of batches are left out."""
    request = ExportTraceServiceRequest.FromString(body)
    spans = [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
    return {int.from_bytes(span.trace_id, "big"): _call(span) for span in spans if "/" in span.name}


def _call(span: Any) -> CallSpan:
    compute = [own.value.double_value for event in span.events if event.name == "compute" for own in event.attributes]
    return CallSpan(
        began_s=span.start_time_unix_nano / 1e9,
        events_s={event.name: event.time_unix_nano / 1e9 for event in span.events},
        compute_s=compute[-1] if compute else 0.0,
        ended_s=span.end_time_unix_nano / 1e9,
    )
