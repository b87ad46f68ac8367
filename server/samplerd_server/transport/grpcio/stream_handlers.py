"""Handlers of grpcio whose streams read and write through a `StreamContext`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import grpc

from samplerd_server.transport.grpcio.lines import Turn
from samplerd_server.transport.grpcio.stream_context import StreamContext
from samplerd_server.transport.rpc.arrival import ARRIVED

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

__all__ = ["StreamHandlers"]


class StreamHandlers(grpc.GenericRpcHandler):
    """The same handlers; those of streams in both directions that take bytes are given another context."""

    def __init__(self, inner: grpc.GenericRpcHandler) -> None:
        self._inner = inner

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Give the handler of a method."""
        handler = self._inner.service(details)
        if handler is None or handler.stream_stream is None or handler.request_deserializer is not None:
            return handler
        arrival = ARRIVED.get(None)
        turn = None if arrival is None else arrival.turn
        if not isinstance(turn, Turn):
            return handler
        call, inner = turn.call, handler.stream_stream

        # A literal `async def`: grpcio runs anything else in a thread pool.
        async def handle(messages: object, context: ServicerContext[bytes, bytes]) -> None:
            own = StreamContext(context, call)
            try:
                await cast("Any", inner)(messages, own)
            finally:
                own.close()

        return grpc.stream_stream_rpc_method_handler(cast("Any", handle))
