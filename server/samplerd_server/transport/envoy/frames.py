"""gRPC's framing over HTTP/2: length-prefixed messages, timeouts and trailers.

Source: PROTOCOL-HTTP2.md of the gRPC project. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import struct
from collections import deque
from typing import TYPE_CHECKING

from samplerd_server.core.errors import Code, SamplerdError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FrameError", "FrameReader", "frame", "parse_timeout", "prefix", "trailer_headers", "whole_message"]

_PREFIX = struct.Struct(">BI")
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MAX_TIMEOUT_DIGITS = 8


class FrameError(SamplerdError):
    """Expected: the body of a call is malformed, over the limit, or uses an unsupported feature."""

    reason = "BAD_FRAME"

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # fixed in the other classes, but a frame can be wrong in several ways


class FrameReader:
    """Cuts the body of a call into messages. The limit is enforced on the announced length, before the bytes come."""

    __slots__ = ("_at", "_chunks", "_limit", "_need", "_size")

    def __init__(self, max_message_bytes: int) -> None:
        self._limit = max_message_bytes
        self._chunks: deque[bytes] = deque()
        """Received chunks that are not used up; they are joined once, when a message is complete."""
        self._at = 0
        """Bytes of the first chunk that are used up."""
        self._size = 0
        """Received bytes that are not used up."""
        self._need: int | None = None
        """Length of the next message, once its prefix has been read."""

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the body."""
        if chunk:
            self._chunks.append(chunk)
            self._size += len(chunk)

    def next_message(self) -> bytes | None:
        """Give the next whole message, or None until more bytes have come.

        Raises:
            FrameError: RESOURCE_EXHAUSTED for a message over the limit, UNIMPLEMENTED for a compressed one.

        """
        if self._need is None:
            if self._size < _PREFIX.size:
                return None
            self._need = _check_prefix(self._take(_PREFIX.size), self._limit)
        if self._size < self._need:
            return None
        message = self._take(self._need)
        self._need = None
        return message

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
        if self._size or self._need is not None:
            raise FrameError(Code.INTERNAL, "the body ends within a message")


def whole_message(body: bytes, max_message_bytes: int) -> bytes | None:
    """Give the message of a body that is exactly one message, as most are; None for any other body.

    Raises:
        FrameError: RESOURCE_EXHAUSTED for a message over the limit, UNIMPLEMENTED for a compressed one.

    """
    if len(body) < _PREFIX.size or _check_prefix(body, max_message_bytes) != len(body) - _PREFIX.size:
        return None
    return body[_PREFIX.size :]


def _check_prefix(body: bytes, limit: int) -> int:
    compressed, length = _PREFIX.unpack_from(body)
    if compressed:
        raise FrameError(Code.UNIMPLEMENTED, "compressed messages are not supported; send identity")
    if length > limit:
        raise FrameError(
            Code.RESOURCE_EXHAUSTED,
            f"a message of {length} bytes is larger than the limit of {limit} (--max-message-bytes)",
        )
    return int(length)


def frame(message: bytes) -> bytes:
    """Put the length before a message."""
    return prefix(len(message)) + message


def prefix(length: int) -> bytes:
    """Give what stands before a message of this many bytes."""
    return _PREFIX.pack(0, length)


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
