"""The part of a context that knows by what a call is followed: its request id, which its errors name, and its trace."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from samplerd_server.transport.codec.status import trailers_of
from samplerd_server.transport.envoy.subject import CertifiedScope
from samplerd_server.transport.rpc.arrival import ARRIVED, Arrival

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from samplerd_server.core.errors import SamplerdError

__all__ = ["IdentifiedCall"]


class IdentifiedCall(CertifiedScope):
    """A call with its arrival."""

    __slots__ = ("_headers", "arrival")

    def __init__(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> None:
        super().__init__(scope)
        self._headers = headers
        arrival = ARRIVED.get(None)
        self.arrival = Arrival(time.monotonic()) if arrival is None else arrival
        """When it came, and its request id."""

    def trace_context(self) -> tuple[str, str]:
        """Give the headers ``traceparent`` and ``tracestate``, "" where one is missing, without reading the others."""
        traceparent = self._headers.get(b"traceparent")
        if traceparent is None:
            return "", ""
        return traceparent.decode("latin-1"), self._headers.get(b"tracestate", b"").decode("latin-1")

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """End the call with a status, unless it has ended."""
        raise NotImplementedError

    async def fail(self, error: SamplerdError) -> None:
        """End the call with an error, unless it has ended."""
        await self.end(error.code, error.message, trailers_of(error, self.arrival.request_id))
