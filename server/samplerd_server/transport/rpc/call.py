"""One call: what a handler may know of it beside its message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.batching.ticket import NO_DEADLINE
from samplerd_server.transport.rpc.arrival import ARRIVED, current_request_id
from samplerd_server.transport.rpc.caller import CALLER

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

__all__ = ["Call", "peer_of"]

_MAX_NAME = 64
"""The most characters of a name that tell callers apart."""


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
        """Whose fair share of the queue it counts against: the identity's where it has a name, else the peer's."""
        caller = CALLER.get()
        if caller:
            return caller
        arrival = ARRIVED.get(None)
        return (arrival is not None and arrival.connection) or peer_of(self.context)

    @property
    def request_id(self) -> str:
        """The id by which its errors are found in logs."""
        return current_request_id()


def peer_of(context: ServicerContext[bytes, bytes]) -> str:
    """Tell callers apart by address; those of one Unix socket, which all have one, by what they call themselves.

    Whoever may open the socket is trusted with that: see docs/security.md.
    """
    peer: str = context.peer()
    if peer != "unix:" and not peer.startswith("unix-abstract:"):
        return peer
    for key, value in context.invocation_metadata() or ():
        if key == "x-samplerd-client":
            return f"{peer}{value[:_MAX_NAME]!s}"
    return peer
