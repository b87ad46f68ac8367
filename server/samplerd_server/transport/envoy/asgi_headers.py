"""What the headers of a call say before anything else looks at them: whether it is gRPC, and when Envoy had it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from samplerd_server.transport.envoy.bootstrap import ARRIVAL_HEADER
from samplerd_server.transport.rpc.arrival import ARRIVED, Arrival
from samplerd_server.transport.rpc.request_id import REQUEST_ID, accept

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_grpc", "note_arrival"]

_CONTENT_TYPES = {b"application/grpc", b"application/grpc+proto"}
_ARRIVAL_HEADER, _ID_HEADER = ARRIVAL_HEADER.encode(), REQUEST_ID.encode()


def note_arrival(headers: dict[bytes, bytes]) -> None:
    """Take out when Envoy had the call, and note it on this process's clock, with the request id."""
    now, came, sent_id = time.monotonic(), headers.pop(_ARRIVAL_HEADER, None), headers.get(_ID_HEADER)
    if came is not None:
        # Clocks of the same machine; an adjustment of it between the two readings is not taken for a wait.
        now -= max(0.0, time.time() - float(came))
    ARRIVED.set(Arrival(now, "" if sent_id is None else accept(sent_id)))


def is_grpc(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the content type is that of gRPC, with or without parameters, and not that of gRPC-Web."""
    content_type = headers.get(b"content-type", b"")
    return content_type in _CONTENT_TYPES or content_type.partition(b";")[0].strip().lower() in _CONTENT_TYPES
