"""What a worker has counted, as it hands it to its supervisor over a Unix socket in a private folder.

Rule 1: a thread of its own answers, so that an event loop with much to do does not delay it. Rule 2: whoever connects
is sent everything and the end of the connection, and says nothing itself; only the supervisor can reach the folder.
Rule 3: the names of the series come last and as JSON that is written once; who knows their digest does not read them.
Rule 4: a worker that ends leaves its last counts in a file beside the socket.
"""

from __future__ import annotations

import hashlib
import json
import socketserver
import struct
from array import array
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from samplerd_server.core.named_thread import NamedThread
from samplerd_server.metrics.patient_server import PatientServer
from samplerd_server.metrics.series import Family, Joiner, Layout, Snapshot
from samplerd_server.metrics.table import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Thread

    from samplerd_server.metrics.series import Source

__all__ = ["SnapshotServer", "decode", "encode", "last_counts"]

_SEND_S = 1.0
"""A supervisor that reads no further must not hold up the end of the worker."""
_HEAD = struct.Struct("=32sII")
"""Digest of the names, number of values, bytes of the names."""
_MAX_KNOWN = 64
"""The most layouts that a supervisor remembers: workers of one release have few."""
_ENCODED: WeakKeyDictionary[Layout, tuple[bytes, bytes]] = WeakKeyDictionary()
_KNOWN: dict[bytes, Layout] = {}


def encode(snapshot: Snapshot) -> bytes:
    """Write down a snapshot."""
    known = _ENCODED.get(snapshot.layout)
    if known is None:
        names = json.dumps([[family.name, family.keys] for family in snapshot.layout.families]).encode()
        known = _ENCODED[snapshot.layout] = hashlib.sha256(names).digest(), names
    digest, names = known
    return _HEAD.pack(digest, len(snapshot.values), len(names)) + array("d", snapshot.values).tobytes() + names


def decode(text: bytes) -> Snapshot:
    """Read what `encode` wrote.

    Raises:
        ValueError: it is not whole, or of a release with other metrics that was installed while the supervisor ran.

    """
    if len(text) < _HEAD.size:
        raise ValueError("a snapshot without a head")
    digest, count, size = _HEAD.unpack_from(text)
    values = array("d")
    names_at = _HEAD.size + count * values.itemsize
    if len(text) != names_at + size:
        raise ValueError("a snapshot that is not whole")
    values.frombytes(text[_HEAD.size : names_at])
    layout = _KNOWN.get(digest)
    if layout is None:
        if len(_KNOWN) >= _MAX_KNOWN:
            _KNOWN.clear()
        layout = _KNOWN[digest] = _read_names(text[names_at:])
    return Snapshot(layout, values)


def _read_names(text: bytes) -> Layout:
    families = []
    for name, keys in json.loads(text):
        own = BY_NAME.get(name)
        if own is None:
            raise ValueError(f"a metric that this release does not have: {name}")
        frozen = tuple((sample, tuple((label, value) for label, value in labels)) for sample, labels in keys)
        families.append(Family(name, own.help, own.type, frozen))
    return Layout(families)


def last_counts(path: Path) -> Path:
    """Give the file in which a worker that answers on this socket leaves its last counts."""
    return path.with_name(f"{path.name}.last")


class _Server(PatientServer, socketserver.UnixStreamServer):
    """The server below."""


class SnapshotServer:
    """Answers the supervisor on its own thread."""

    def __init__(self, path: str, *sources: Source) -> None:
        self._path = path
        self._sources: Sequence[Source] = sources
        self._joiner = Joiner()
        self._server: socketserver.UnixStreamServer | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to answer.

        Raises:
            OSError: the path cannot be listened on.

        """
        read = self._read

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.settimeout(_SEND_S)
                with suppress(OSError):  # a supervisor that did not wait for it
                    self.request.sendall(read())

        self._server = _Server(self._path, Handler)
        self._thread = NamedThread(target=self._server.serve_forever, name="samplerd-snapshots", daemon=True)
        self._thread.start()

    def _read(self) -> bytes:
        return encode(self._joiner.join([source.read() for source in self._sources]))

    def stop(self) -> None:
        """Stop answering, wait for the thread, and leave the last counts: nothing may be counted after this."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
            # The disk may be full, the folder gone with a supervisor that has died, a gauge's source ended: none of it
            # may hold up the end.
            with suppress(Exception):
                last_counts(Path(self._path)).write_bytes(self._read())
