"""What a worker has counted, as it hands it to its supervisor: over a Unix socket in a private folder, as JSON.

Rule 1: a thread of its own answers, so that an event loop with much to do does not delay it. Rule 2: whoever connects
is sent everything and the end of the connection, and says nothing itself; only the supervisor can reach the folder.
"""

from __future__ import annotations

import json
import socketserver
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.registry import Collector

__all__ = ["Key", "Snapshot", "SnapshotServer", "decode", "encode"]

_SEND_S = 1.0
"""A supervisor that reads no further must not hold up the end of the worker."""

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name, and the names and values of its labels."""
Snapshot = dict[str, dict[Key, float]]
"""All samples of one process, in the order in which they are shown, by the metric's name in `table.BY_NAME`."""


def encode(collectors: Iterable[Collector]) -> bytes:
    """Write down what collectors have now."""
    metrics = [
        [metric.name, [[own.name, own.labels, own.value] for own in metric.samples]]
        for collector in collectors
        for metric in collector.collect()
    ]
    return json.dumps(metrics).encode()


def decode(text: bytes) -> Snapshot:
    """Read what `encode` wrote.

    Raises:
        ValueError: it is not whole.

    """
    return {
        name: {(sample, tuple(labels.items())): value for sample, labels, value in samples}
        for name, samples in json.loads(text)
    }


class SnapshotServer:
    """Answers the supervisor on its own thread."""

    def __init__(self, path: str, *collectors: Collector) -> None:
        self._path = path
        self._collectors = collectors
        self._server: socketserver.UnixStreamServer | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to answer.

        Raises:
            OSError: the path cannot be listened on.

        """
        collectors = self._collectors

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.settimeout(_SEND_S)
                with suppress(OSError):  # a supervisor that did not wait for it
                    self.request.sendall(encode(collectors))

        self._server = socketserver.UnixStreamServer(self._path, Handler)
        self._thread = Thread(target=self._server.serve_forever, name="samplerd-snapshots", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and wait for the thread."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
