"""Compressed messages: inflating what clients send, within the limit of messages, and compressing long replies.

Rule 1: the inflated size counts against the limit while a message is inflated: memory for at most the limit is used,
twice at the end, when the parts are joined. Rule 2: nothing that takes long runs on the event loop; zlib works without
the interpreter's lock, so a thread does it.

Used by Envoy's transport and by HTTP. The transport grpcio leaves it to gRPC's own core, which bounds it too since
1.84: older ones inflate the whole message before they check its size.
"""

from __future__ import annotations

import asyncio
import re
import zlib

from samplerd_server.core.errors import InvalidRequestError, MessageTooLargeError, NotImplementedFieldError

__all__ = ["ENCODINGS", "IDENTITY", "compress", "inflate", "inflate_now", "takes_gzip"]

IDENTITY = "identity"
_WINDOWS = {"gzip": 31, "deflate": 15}
"""What zlib calls the formats of RFC 1952 and RFC 1950: both with the largest window, the first with 16 added."""
ENCODINGS = (*_WINDOWS, IDENTITY)
"""Names of the encodings of requests, as in grpc-encoding, content-encoding and connect-content-encoding."""
_INLINE_BYTES = 4 << 10
"""Compressed bytes that the event loop inflates itself: at most 4 MiB come of them, in some 3 ms at worst."""
_MIN_REPLY_BYTES = 2 << 10
"""Shorter replies are not compressed: they fit in about one packet."""
_ZERO = re.compile(r"q=0(\.0*)?")
_LEVEL = 1
"""zlib's fastest level: its others take several times as long for a few per cent of size."""


async def inflate(data: bytes, encoding: str, max_bytes: int) -> bytes:
    """Inflate a message, in a thread if it may take long.

    Args:
        data: the compressed message: one stream of zlib or one member of gzip, and nothing after it.
        encoding: one of `ENCODINGS`.
        max_bytes: most bytes that may come of it.

    Raises:
        InvalidRequestError: the data is not of this encoding, or ends too soon.
        MessageTooLargeError: more than `max_bytes` come of it.
        NotImplementedFieldError: it is another encoding.

    """
    if encoding == IDENTITY or len(data) <= _INLINE_BYTES:
        return inflate_now(data, encoding, max_bytes)
    return await asyncio.to_thread(inflate_now, data, encoding, max_bytes)


def inflate_now(data: bytes, encoding: str, max_bytes: int) -> bytes:
    """Do what `inflate` does, in the calling thread.

    Raises:
        InvalidRequestError: see `inflate`.
        MessageTooLargeError: see `inflate`.
        NotImplementedFieldError: see `inflate`.

    """
    if encoding == IDENTITY:
        if len(data) > max_bytes:
            raise MessageTooLargeError(f"a message of {len(data)} bytes", max_bytes)
        return data
    window = _WINDOWS.get(encoding)
    if window is None:
        raise NotImplementedFieldError(
            f"the encoding {encoding[:40]!r}", f"is not supported; send {', '.join(_WINDOWS)} or {IDENTITY}"
        )
    inflater = zlib.decompressobj(window)
    try:
        message = inflater.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequestError("request", f"the message is not {encoding}") from error
    if len(message) > max_bytes:
        raise MessageTooLargeError("the inflated message", max_bytes)
    if not inflater.eof or inflater.unused_data:
        raise InvalidRequestError("request", f"the message is not exactly one stream of {encoding}")
    return message


async def compress(reply: bytes) -> bytes | None:
    """Compress a reply with gzip, in a thread; None = it is too short to gain, or does not become smaller."""
    if len(reply) < _MIN_REPLY_BYTES:
        return None
    compressed = await asyncio.to_thread(zlib.compress, reply, _LEVEL, _WINDOWS["gzip"])
    return compressed if len(compressed) < len(reply) else None


def takes_gzip(accepted: str) -> bool:
    """Whether a list of encodings such as accept-encoding has it names gzip, and not with a weight of 0."""
    for entry in accepted.lower().split(","):
        name, _, weight = entry.partition(";")
        if name.strip() == "gzip":
            return _ZERO.fullmatch(weight.replace(" ", "")) is None
    return False
