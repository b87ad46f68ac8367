"""A collector of traces: takes OTLP over HTTP as OpenTelemetry's own does, and keeps the spans."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WAIT_S = 60.0


class Collector:
    """Listens on a free port; ``with Collector() as collector:``."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, Any], Any]] = []
        """The attributes of the resource, and the span, in the order of their arrival."""
        self._come = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                outer._take(self.path, ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.paths: set[str] = set()

    def _take(self, path: str, request: ExportTraceServiceRequest) -> None:
        with self._come:
            self.paths.add(path)
            for resource in request.resource_spans:
                own = values(resource.resource.attributes)
                self.spans += [(own, span) for scope in resource.scope_spans for span in scope.spans]
            self._come.notify_all()

    def find(self, condition: Any) -> Any:
        """Wait for a span for which the condition holds."""
        with self._come:
            found = self._come.wait_for(lambda: [own for own in self.spans if condition(own[1])], WAIT_S)
        assert found, f"no such span among {[span.name for _, span in self.spans]}"
        return found[0]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    return {own.key: getattr(own.value, own.value.WhichOneof("value")) for own in attributes}
