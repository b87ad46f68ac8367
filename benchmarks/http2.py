"""The little of HTTP/2 that sending one call over and over needs: a connection on a socket that never blocks.

Each call is the same bytes but for its stream's number, so its header block is encoded once, without compression, and
its body goes out of one buffer. Replies are not read but for their end (RFC 9113; RFC 7541 for the header block).
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.load import LoadError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Connection", "header", "header_block"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 1, 2, 3, 4, 5
_FRAME_HEADER = 9
_WINDOW = 1 << 30
"""What the server may send before it must wait: all replies of a run."""
_MAX_PIECES = 512
"""Of one system call: half of what Linux takes."""


def _literal(value: bytes) -> bytes:
    """Write a string as it is: length, bytes. Seven bits of length are enough here."""
    assert len(value) < 127, f"{value!r} is too long. This is a bug."
    return bytes([len(value)]) + value


def header_block(path: str, authority: str, client: str = "") -> bytes:
    """Encode the headers of a gRPC call, nothing of it indexed or compressed; `client` is how the caller is told."""
    name = b"\x00" + _literal(b"x-samplerd-client") + _literal(client.encode()) if client else b""
    return b"".join(
        [
            b"\x83\x86",  # :method POST and :scheme http, from the static table
            b"\x04" + _literal(path.encode()),
            b"\x01" + _literal(authority.encode()),
            b"\x0f\x10" + _literal(b"application/grpc"),  # content-type, 31 in the static table
            b"\x00" + _literal(b"te") + _literal(b"trailers"),
            name,
        ]
    )


def header(name: str, value: str) -> bytes:
    """Encode one more header, to follow a block."""
    return b"\x00" + _literal(name.encode()) + _literal(value.encode())


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">IBI", size << 8 | kind, flags, stream) + payload


def _connect(port: int, socket_path: Path | None) -> socket.socket:
    if socket_path is not None:
        own = socket.socket(socket.AF_UNIX)
        own.settimeout(10)
        own.connect(str(socket_path))
        return own
    own = socket.create_connection(("127.0.0.1", port), timeout=10)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return own


@dataclass(slots=True)
class _Call:
    number: int
    """The caller's own."""
    stream: int
    offset: int
    """Bytes of the body that are on their way."""
    window: int
    """Bytes that the server takes on this stream now."""
    has_reply: bool = False
    """Whether a message has come back."""


class Connection:
    """One connection that makes one call over and over. `fileno` is for select."""

    def __init__(self, port: int, block: bytes, body: bytes, socket_path: Path | None = None) -> None:
        """Connect to a port of 127.0.0.1, or to a Unix socket."""
        self._block = block
        self._body = memoryview(body)
        self._socket = _connect(port, socket_path)
        self._socket.settimeout(0)
        self.refused: set[int] = set()
        """Calls that ended with a status and no message."""
        settings = struct.pack(">HIHI", _HEADER_TABLE_SIZE, 0, _ENABLE_PUSH, 0)
        window = struct.pack(">I", _WINDOW)
        self._out: deque[bytes | memoryview] = deque(
            [_PREFACE, _frame(_SETTINGS, 0, 0, settings), _frame(_WINDOW_UPDATE, 0, 0, window)]
        )
        self._in = bytearray()
        self._waiting: deque[tuple[int, bytes]] = deque()
        """Calls that were submitted and have no stream yet, and the headers that each has besides."""
        self._sending: deque[_Call] = deque()
        self._open: dict[int, _Call] = {}
        self._next_stream = 1
        self._window = 65_535
        self._initial_window = 65_535
        self._max_frame = 16_384
        self._max_streams = 100

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes are left that the system did not take."""
        return bool(self._out)

    def submit(self, number: int, headers: bytes = b"") -> None:
        """Make a call as soon as the server's limits allow, with headers of its own besides (`header`)."""
        self._waiting.append((number, headers))

    def send(self) -> None:
        """Hand over to the system as much as it and the server's windows take now."""
        while True:
            self._fill()
            if not self._out:
                return
            pieces = [self._out[index] for index in range(min(len(self._out), _MAX_PIECES))]
            try:
                sent = self._socket.sendmsg(pieces)
            except BlockingIOError:
                return
            while sent and sent >= len(self._out[0]):
                sent -= len(self._out.popleft())
            if sent:
                self._out[0] = memoryview(self._out[0])[sent:]

    def receive(self) -> list[int]:
        """Read what has arrived; give the calls that ended.

        Raises:
            LoadError: the server reset a call or closed the connection.

        """
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return []
        if not data:
            raise LoadError("the server closed the connection")
        self._in += data
        ended: list[int] = []
        at = 0
        while at + _FRAME_HEADER <= len(self._in):
            word, flags, stream = struct.unpack_from(">IBI", self._in, at)
            end = at + _FRAME_HEADER + (word >> 8)
            if end > len(self._in):
                break
            self._take(word & 0xFF, flags, stream, self._in[at + _FRAME_HEADER : end], ended)
            at = end
        del self._in[:at]
        return ended

    def _fill(self) -> None:
        """Write frames, as long as the windows allow and few of them wait for the system."""
        while self._waiting and len(self._open) < self._max_streams:
            number, headers = self._waiting.popleft()
            call = _Call(number, self._next_stream, 0, self._initial_window)
            self._next_stream += 2
            self._open[call.stream] = call
            self._out.append(_frame(_HEADERS, _END_HEADERS, call.stream, self._block + headers))
            self._sending.append(call)
        stuck = 0
        while self._window > 0 and stuck < len(self._sending) and len(self._out) < _MAX_PIECES:
            call = self._sending[0]
            left = len(self._body) - call.offset
            size = min(left, call.window, self._window, self._max_frame)
            if size <= 0:
                self._sending.rotate(-1)
                stuck += 1
                continue
            stuck = 0
            is_last = size == left
            self._out.append(_frame(_DATA, _END_STREAM if is_last else 0, call.stream, length=size))
            self._out.append(self._body[call.offset : call.offset + size])
            call.offset += size
            call.window -= size
            self._window -= size
            if is_last:
                self._sending.popleft()

    def _take(self, kind: int, flags: int, stream: int, payload: bytearray, ended: list[int]) -> None:
        if kind in {_HEADERS, _DATA}:
            call = self._open.get(stream)
            if call is None:
                return
            call.has_reply |= kind == _DATA and bool(payload)
            if flags & _END_STREAM:
                ended.append(self._open.pop(stream).number)
                if not call.has_reply:
                    self.refused.add(call.number)
        elif kind == _WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if stream == 0:
                self._window += more
            elif stream in self._open:
                self._open[stream].window += more
        elif kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                self._set(name, value)
            self._out.append(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._out.append(_frame(_PING, _ACK, 0, bytes(payload)))
        elif kind == _GOAWAY or (kind == _RST_STREAM and stream in self._open):
            raise LoadError(f"the server sent frame {kind} for stream {stream}: {payload.hex()}")

    def _set(self, name: int, value: int) -> None:
        if name == _MAX_CONCURRENT_STREAMS:
            self._max_streams = value
        elif name == _MAX_FRAME_SIZE:
            self._max_frame = value
        elif name == _INITIAL_WINDOW_SIZE:
            for call in self._open.values():
                call.window += value - self._initial_window
            self._initial_window = value
