"""What a worker has counted, as it hands it to its supervisor: over a Unix socket in a private folder, as JSON.

Rule 1: a thread of its own answers, so that an event loop with much to do does not delay it. Rule 2: whoever connects
is sent everything and the end of the connection, and says nothing itself; only the supervisor can reach the folder.
"""

from __future__ import annotations

import json
import socketserver
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samplerd_server.metrics.metrics import Metrics, Process

__all__ = ["Family", "Key", "Snapshot", "SnapshotServer", "decode", "encode"]

_SEND_S = 1.0
"""A supervisor that reads no further must not hold up the end of the worker."""

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name, and the names and values of its labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric with all its series, as Prometheus groups them."""

    name: str
    """Without the suffixes of its samples."""
    help: str
    kind: str
    """``counter``, ``histogram``, ``gauge`` or ``info``."""
    samples: dict[Key, float]
    """In the order in which they are shown."""


Snapshot = dict[str, Family]
"""All families of one process, by name."""


def encode(collectors: Iterable[Metrics | Process]) -> bytes:
    """Write down what collectors have now."""
    families = [
        [metric.name, metric.documentation, metric.type, [[own.name, own.labels, own.value] for own in metric.samples]]
        for collector in collectors
        for metric in collector.collect()
    ]
    return json.dumps(families).encode()


def decode(text: bytes) -> Snapshot:
    """Read what `encode` wrote.

    Raises:
        ValueError: it is not whole.

    """
    return {
        name: Family(
            name=name,
            help=text,
            kind=kind,
            samples={(sample, tuple(labels.items())): value for sample, labels, value in samples},
        )
        for name, text, kind, samples in json.loads(text)
    }


class SnapshotServer:
    """Answers the supervisor on its own thread."""

    def __init__(self, path: str, *collectors: Metrics | Process) -> None:
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
