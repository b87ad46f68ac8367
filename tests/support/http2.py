"""HTTP/2 without gRPC's manners: a blocking client that sends what a test says, frame by frame."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h2.connection
import h2.events
import h2.exceptions
from h2.settings import SettingCodes

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 30.0
GOAWAY = 7
DATA, HEADERS_FRAME, _RST_STREAM = 0, 1, 3
ANSWERS = {HEADERS_FRAME, _RST_STREAM}
"""Types of the frames that answer a call."""
_END_STREAM = 1
HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/samplerd.v1.SamplerService/Sample",
    ":authority": "samplerd",
    "content-type": "application/grpc",
    "te": "trailers",
}


@dataclass
class Reply:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    """Headers and trailers."""
    body: bytes = b""
    is_reset: bool = False
    has_ended: bool = False

    @property
    def grpc_status(self) -> int | None:
        return int(self.headers["grpc-status"]) if "grpc-status" in self.headers else None


class Connection:
    """One connection; each `Reply` by the number of its stream."""

    def __init__(self, address: str, window: int | None = None) -> None:
        """Connect; `window` is what the server may send on each stream, and nothing opens it again but `let`."""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), WAIT_S)
        self._h2 = h2.connection.H2Connection()
        self._h2.initiate_connection()
        # Whatever the server sends may come: nothing here waits for a window of ours.
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30 if window is None else window})
        self._h2.increment_flow_control_window((1 << 30) - (1 << 16))
        self.replies: dict[int, Reply] = {}
        self.is_closed = False
        self.is_leaving = False
        """Whether the server has said that it takes no more calls here."""
        self.pings = 0
        """How often the server has asked whether anybody is there."""
        self._flush()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _flush(self) -> None:
        with suppress(ConnectionError):
            self._socket.sendall(self._h2.data_to_send())

    def start(self, *extra: tuple[str, str], end: bool = False, **changed: str | None) -> int:
        """Send headers, with some changed or left out (None); returns the stream's number."""
        names = {name.replace("_", "-"): value for name, value in changed.items()}
        own = {name: names.pop(name.removeprefix(":"), value) for name, value in HEADERS.items()}
        stream = self._h2.get_next_available_stream_id()
        self.replies[stream] = Reply()
        pairs = [(name, value) for name, value in (own | names).items() if value is not None]
        self._h2.send_headers(stream, [*pairs, *extra], end_stream=end)
        self._flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        """Send data as far as the server takes it; False once it takes no more of this stream."""
        view = memoryview(data)
        while True:
            reply = self.replies[stream]
            if self.is_closed or reply.is_reset or (reply.has_ended and not end):
                return False
            size = min(len(view), self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if view and not size:
                self.read()
                continue
            try:
                self._h2.send_data(stream, view[:size].tobytes(), end_stream=end and size == len(view))
            except h2.exceptions.ProtocolError:
                return False
            self._flush()
            view = view[size:]
            if not view:
                return True

    def read(self) -> None:
        """Take what has come, and wait for it if nothing has."""
        data = self._socket.recv(1 << 16)
        self.is_closed = not data
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:  # what comes after the server's goodbye
            self.is_leaving = True
            return
        for event in events:
            stream = getattr(event, "stream_id", None)
            reply = self.replies.get(stream) if stream else None
            self.is_leaving |= isinstance(event, h2.events.ConnectionTerminated)
            self.pings += isinstance(event, h2.events.PingReceived)
            if reply is None:
                continue
            if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                reply.headers |= {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h2.events.DataReceived):
                reply.body += event.data
            elif isinstance(event, h2.events.StreamEnded):
                reply.has_ended = True
            elif isinstance(event, h2.events.StreamReset):
                reply.is_reset = True
        self._flush()

    def finish(self, stream: int) -> Reply:
        """Wait for the end of a stream, or of the connection."""
        reply = self.replies[stream]
        while not (reply.has_ended or reply.is_reset or self.is_closed):
            self.read()
        return reply

    def frames(self, stream: int) -> list[int]:
        """Give the types of all frames in their order, up to the one that ends a stream; of a connection never read."""
        kinds = []
        with self._socket.makefile("rb") as file:
            while head := file.read(9):
                kinds.append(head[3])
                file.read(int.from_bytes(head[:3]))
                ends = head[3] == _RST_STREAM or (head[3] in (DATA, HEADERS_FRAME) and head[4] & _END_STREAM)
                if ends and int.from_bytes(head[5:]) == stream:
                    break
        return kinds

    def wait_for(self, kind: int) -> None:
        """Wait until a frame of a type has come, and read none; of a connection never read."""
        while kind not in _kinds(self._socket.recv(1 << 16, socket.MSG_PEEK)):
            time.sleep(0.01)

    def call(self, body: bytes, *extra: tuple[str, str], **changed: str | None) -> Reply:
        """Send a whole request and wait for its reply."""
        stream = self.start(*extra, **changed)
        self.send(stream, body, end=True)
        return self.finish(stream)

    def let(self, stream: int, size: int) -> None:
        """Let the server send so many bytes more on a stream."""
        self._h2.increment_flow_control_window(size, stream)
        self._flush()

    def reset(self, stream: int) -> None:
        self._h2.reset_stream(stream)
        self._flush()


def _kinds(data: bytes) -> Iterator[int]:
    """Give the types of all frames that have begun."""
    while len(data) >= 9:
        yield data[3]
        data = data[9 + int.from_bytes(data[:3]) :]
