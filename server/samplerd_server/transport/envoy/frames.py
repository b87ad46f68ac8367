"""gRPC's framing over HTTP/2: length-prefixed messages, timeouts and trailers.

Source: PROTOCOL-HTTP2.md of the gRPC project. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import struct
from collections import deque
from typing import TYPE_CHECKING

from samplerd_server.core.errors import Code, MessageTooLargeError, SamplerdError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "COMPRESSED",
    "FrameError",
    "FrameReader",
    "frame",
    "parse_timeout",
    "prefix",
    "trailer_headers",
    "whole_message",
]

COMPRESSED = 1
"""The flag of a frame whose message is compressed."""
_PREFIX = struct.Struct(">BI")
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MAX_TIMEOUT_DIGITS = 8


class FrameError(SamplerdError):
    """Expected: the body or a header of a call is malformed."""

    reason = "BAD_FRAME"

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # fixed in the other classes, but a frame can be wrong in several ways


class FrameReader:
    """Cuts the body of a call into frames: messages and their flags.

    The limit is enforced on the announced length, before the bytes come.
    """

    __slots__ = ("_announced", "_at", "_chunks", "_limit", "_size")

    def __init__(self, max_message_bytes: int) -> None:
        self._limit = max_message_bytes
        self._chunks: deque[bytes] = deque()
        """Received chunks that are not used up; they are joined once, when a message is complete."""
        self._at = 0
        """Bytes of the first chunk that are used up."""
        self._size = 0
        self._announced: tuple[int, int] | None = None
        """Flags and length of the next message, once its prefix has been read."""

    @property
    def size(self) -> int:
        """Received bytes that are not used up."""
        return self._size

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the body."""
        if chunk:
            self._chunks.append(chunk)
            self._size += len(chunk)

    def next_frame(self) -> tuple[int, bytes] | None:
        """Give the flags and the message of the next whole frame, or None until more bytes have come.

        Raises:
            MessageTooLargeError: the message, as it was sent, is over the limit.

        """
        if self._announced is None:
            if self._size < _PREFIX.size:
                return None
            if (message := self.next_plain()) is not None:
                return 0, message
            self._announced = _read_prefix(self._take(_PREFIX.size), self._limit)
        flags, size = self._announced
        if self._size < size:
            return None
        message = self._take(size)
        self._announced = None
        return flags, message

    def next_plain(self) -> bytes | None:
        """Give the message of the next frame if that lies whole in one chunk and is plain, as most are; else None.

        Frames that it does not give are `next_frame`'s, and so is the refusal of a message over the limit.
        """
        if self._announced is not None or not self._chunks:
            return None
        first, begin = self._chunks[0], self._at + _PREFIX.size
        if len(first) < begin:
            return None
        flags, size = _PREFIX.unpack_from(first, self._at)
        end = begin + size
        if flags or size > self._limit or end > len(first):
            return None
        self._size -= _PREFIX.size + size
        if end == len(first):
            self._chunks.popleft()
            self._at = 0
        else:
            self._at = end
        return first[begin:end]

    def _take(self, size: int) -> bytes:
        """Take the next bytes, which have been received. Each byte is copied once, from however many chunks."""
        self._size -= size
        parts = []
        while size > 0:
            first = self._chunks[0]
            end = min(self._at + size, len(first))
            size -= end - self._at
            if end == len(first):
                parts.append(memoryview(self._chunks.popleft())[self._at :])
                self._at = 0
            else:
                parts.append(memoryview(first)[self._at : end])
                self._at = end
        return b"".join(parts)

    def check_ended(self) -> None:
        """Check that the body does not end within a message.

        Raises:
            FrameError: it does.

        """
        if self._size or self._announced is not None:
            raise FrameError(Code.INTERNAL, "the body ends within a message")


def whole_message(body: bytes, max_message_bytes: int) -> bytes | None:
    """Give the message of a body that is exactly one plain frame, as most are; None for any other body.

    Raises:
        MessageTooLargeError: the message is over the limit.

    """
    if len(body) < _PREFIX.size or _read_prefix(body, max_message_bytes) != (0, len(body) - _PREFIX.size):
        return None
    return body[_PREFIX.size :]


def _read_prefix(body: bytes, limit: int) -> tuple[int, int]:
    flags, size = _PREFIX.unpack_from(body)
    if size > limit:
        raise MessageTooLargeError(f"a message of {size} bytes", limit)
    return int(flags), int(size)


def frame(message: bytes, flags: int = 0) -> bytes:
    """Put flags and length before a message."""
    return prefix(len(message), flags) + message


def prefix(length: int, flags: int = 0) -> bytes:
    """Give what stands before a message of this many bytes."""
    return _PREFIX.pack(flags, length)


def parse_timeout(text: bytes) -> float:
    """Seconds from the value of ``grpc-timeout``: at most eight digits and a unit.

    Raises:
        FrameError: it is malformed.

    """
    digits, unit = text[:-1], text[-1:].decode("latin-1")
    if unit not in _TIMEOUT_UNITS or not digits.isdigit() or len(digits) > _MAX_TIMEOUT_DIGITS:
        raise FrameError(Code.INTERNAL, "grpc-timeout is malformed")
    return int(digits) * _TIMEOUT_UNITS[unit]


def trailer_headers(
    code: int, message: str, trailers: Iterable[tuple[str, str | bytes]] = ()
) -> list[tuple[bytes, bytes]]:
    """Lay out the trailers of a call: status, percent-encoded message, and metadata with binary values in base64."""
    headers = [(b"grpc-status", str(code).encode())]
    if message:
        headers.append((b"grpc-message", _percent_encode(message)))
    for name, value in trailers:
        raw = value if isinstance(value, bytes) else value.encode()
        headers.append((name.encode(), base64.b64encode(raw) if name.endswith("-bin") else raw))
    return headers


def _percent_encode(message: str) -> bytes:
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in message.encode()
    )
