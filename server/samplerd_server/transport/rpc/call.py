"""One call: what a handler may know of it beside its message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.batching.ticket import NO_DEADLINE

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

__all__ = ["Call"]


class Call:
    """One call."""

    __slots__ = ("arrival", "context", "rpc")

    def __init__(self, rpc: str, arrival: float, context: ServicerContext[bytes, bytes]) -> None:
        self.rpc = rpc
        """The name of its RPC."""
        self.arrival = arrival
        """When it came, in seconds on the monotonic clock."""
        self.context = context
        """The transport's side of it: streams read and write their messages there."""

    @property
    def deadline(self) -> float:
        """When its caller stops waiting for the answer, in seconds on the monotonic clock; NO_DEADLINE = never."""
        remaining = self.context.time_remaining()
        return NO_DEADLINE if remaining is None else self.arrival + remaining

    @property
    def connection(self) -> str:
        """Whose fair share of the queue it counts against."""
        return self.context.peer()
