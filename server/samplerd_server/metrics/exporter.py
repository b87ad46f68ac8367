"""The exporter: serves /metrics on its own thread, which reads counters and never writes to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server

if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.registry import Collector

__all__ = ["Exporter"]


class Exporter:
    """Serves /metrics on its own thread."""

    def __init__(self, listen: str, *collectors: Collector) -> None:
        self._listen = listen
        self._registry = CollectorRegistry()
        for collector in collectors:
            self._registry.register(collector)
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None

    def start(self) -> int:
        """Begin to serve; returns the port, which the system chose if the configured one was 0.

        Raises:
            OSError: the address cannot be listened on.

        """
        host, _, port = self._listen.rpartition(":")
        self._server, self._thread = start_http_server(int(port), host.strip("[]"), self._registry)
        return int(self._server.server_port)

    def stop(self) -> None:
        """Stop serving and wait for the thread."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
