"""The exporter: serves /metrics on its own threads, which read counters and never write to them.

Other paths can be added, as `add` says; a path that nobody has added is answered 404, so that a probe of a path that
does not exist fails.
"""

from __future__ import annotations

import gzip
import socket
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.exposition import choose_encoder, gzip_accepted

from samplerd_server.core.named_thread import NamedThread
from samplerd_server.metrics.patient_server import PatientServer
from samplerd_server.metrics.series import Joiner
from samplerd_server.metrics.text import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Thread
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from samplerd_server.metrics.series import Source

__all__ = ["Exporter", "Page"]

_TEXT = "text/plain; charset=utf-8"
_OPEN_METRICS = "application/openmetrics-text"
_GZIP_LEVEL = 1
"""A tenth of the text is left of it, as at the highest level, in a tenth of the time."""
_READING = {"GET", "HEAD"}


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a request."""

    body: str
    status: HTTPStatus = HTTPStatus.OK


class Exporter:
    """Serves /metrics, and what is added, on its own threads."""

    def __init__(self, listen: str, *sources: Source) -> None:
        self._listen = listen
        self._sources = sources
        self._joiner = Joiner()
        self._paths: dict[str, WSGIApplication] = {"/metrics": self._show}
        self._mounted: set[str] = set()
        self._server: _Server | None = None
        self._thread: Thread | None = None

    def register(self, source: Source) -> None:
        """Show what another source has counted too."""
        self._sources = (*self._sources, source)

    def add(self, path: str, answer: Callable[[str], Page]) -> None:
        """Answer `path` with what `answer` makes of the query, the part of the address after its question mark.

        It runs on a thread of the exporter, several calls at once, and should not wait.
        """

        def application(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            return _send(start, answer(environment.get("QUERY_STRING", "")))

        self._paths[path] = application

    def mount(self, paths: Iterable[str], application: WSGIApplication) -> None:
        """Let an application answer these paths, whatever the method; it runs as the answers of `add` do."""
        for path in paths:
            self._paths[path] = application
            self._mounted.add(path)

    def start(self, *, shares_port: bool = False) -> int:
        """Begin to serve; returns the port, which the system chose if the configured one was 0.

        Args:
            shares_port: whether another exporter of this server may listen on the same port, or does already.

        Raises:
            OSError: the address cannot be listened on.

        """
        host, _, port = self._listen.rpartition(":")
        host = host.strip("[]")
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        server_class = type("_Server", (_Server,), {"address_family": family, "allow_reuse_port": shares_port})
        self._server = make_server(host, int(port), self._application, server_class, _Handler)
        self._thread = NamedThread(target=self._server.serve_forever, name="samplerd-metrics", daemon=True)
        self._thread.start()
        return int(self._server.server_port)

    def _show(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer a scrape: in the format and encoding that it asks for, with the metrics that it names, or all."""
        snapshot = self._joiner.join([source.read() for source in self._sources])
        names = parse_qs(environment.get("QUERY_STRING", "")).get("name[]")
        if names:
            snapshot = snapshot.named(frozenset(names))
        _, content_type = choose_encoder(environment.get("HTTP_ACCEPT", ""))
        body = write(snapshot, is_open_metrics=content_type.startswith(_OPEN_METRICS)).encode()
        headers = [("Content-Type", content_type)]
        if gzip_accepted(environment.get("HTTP_ACCEPT_ENCODING", "")):
            headers.append(("Content-Encoding", "gzip"))
            body = gzip.compress(body, _GZIP_LEVEL)
        start("200 OK", [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _application(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        found = self._paths.get(path)
        if found is None:
            known = ", ".join(self._paths)
            return _send(start, Page(f"There is no such page. There are: {known}\n", HTTPStatus.NOT_FOUND))
        if path in self._mounted:
            return found(environment, start)
        if environment["REQUEST_METHOD"] not in _READING:
            return _send(start, Page("This page can only be read.\n", HTTPStatus.METHOD_NOT_ALLOWED))
        if environment["REQUEST_METHOD"] == "GET":
            return found(environment, start)
        found({**environment, "REQUEST_METHOD": "GET"}, start)
        return []

    def stop(self) -> None:
        """Stop serving and wait for the thread; who has connected by now is answered."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.answer_waiting()
            self._server.server_close()
            self._server = None


class _Server(PatientServer, ThreadingMixIn, WSGIServer):
    """One thread a request: a probe need not wait for a slow scraper."""

    daemon_threads = True

    def answer_waiting(self) -> None:
        """Take those who wait to be accepted: closing would reset their connections."""
        self.socket.settimeout(0.0)
        with suppress(OSError):
            while True:
                self.process_request(*self.get_request())


class _Handler(WSGIRequestHandler):
    timeout = 10.0
    """Seconds that a peer may say nothing, or read nothing: its connection holds a thread."""

    def handle(self) -> None:
        """Answer one request, or give up on a peer that has sent none."""
        with suppress(TimeoutError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Log no requests."""


def _send(start: StartResponse, page: Page) -> list[bytes]:
    body = page.body.encode()
    start(
        f"{page.status.value} {page.status.phrase}",
        [("Content-Type", _TEXT), ("Content-Length", str(len(body)))],
    )
    return [body]
