"""gRPC's framing over HTTP/2: length-prefixed messages, timeouts, and what goes into trailers.

Source: PROTOCOL-HTTP2.md of the gRPC project. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING

from samplerd_server.errors import Code, SamplerdError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FrameError", "FrameReader", "frame", "parse_timeout", "trailer_headers"]

_PREFIX = struct.Struct(">BI")
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MAX_TIMEOUT_DIGITS = 8


class FrameError(SamplerdError):
    """Expected: the bytes of a call break the framing, its limits, or use what is not supported."""

    reason = "BAD_FRAME"

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # fixed for each other class, but a frame can be wrong in several ways


class FrameReader:
    """Cuts the body of a call into messages. The limit is enforced on the announced length, before the bytes come."""

    __slots__ = ("_chunks", "_limit", "_size")

    def __init__(self, max_message_bytes: int) -> None:
        self._limit = max_message_bytes
        self._chunks: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if chunk:
            self._chunks.append(chunk)
            self._size += len(chunk)

    def next_message(self) -> bytes | None:
        """Give the next whole message, or None until more bytes have come.

        Raises:
            FrameError: RESOURCE_EXHAUSTED for a message over the limit, UNIMPLEMENTED for a compressed one.

        """
        if self._size < _PREFIX.size:
            return None
        if len(self._chunks[0]) < _PREFIX.size:
            self._chunks = [b"".join(self._chunks)]
        compressed, length = _PREFIX.unpack_from(self._chunks[0])
        if compressed:
            raise FrameError(Code.UNIMPLEMENTED, "compressed messages are not supported; send identity")
        if length > self._limit:
            raise FrameError(
                Code.RESOURCE_EXHAUSTED,
                f"a message of {length} bytes is larger than the limit of {self._limit} (--max-message-bytes)",
            )
        end = _PREFIX.size + length
        if self._size < end:
            return None
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = [body[end:]] if len(body) > end else []
        self._size -= end
        return body[_PREFIX.size : end]

    def check_ended(self) -> None:
        """Complain of a body that ends within a message.

        Raises:
            FrameError: it does.

        """
        if self._size:
            raise FrameError(Code.INTERNAL, "the body ends within a message")


def frame(message: bytes) -> bytes:
    """Put the length before a message."""
    return _PREFIX.pack(0, len(message)) + message


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
