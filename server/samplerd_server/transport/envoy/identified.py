"""The part of a context that knows the call's request id, and ends the call with an error that names it."""

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

    __slots__ = ("arrival",)

    def __init__(self, scope: Mapping[str, Any]) -> None:
        super().__init__(scope)
        arrival = ARRIVED.get(None)
        self.arrival = Arrival(time.monotonic()) if arrival is None else arrival
        """When it came, and its request id."""

    async def end(self, code: int, details: str = "", trailers: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """End the call with a status, unless it has ended."""
        raise NotImplementedError

    async def fail(self, error: SamplerdError) -> None:
        """End the call with an error, unless it has ended."""
        await self.end(error.code, error.message, trailers_of(error, self.arrival.request_id))
