"""Counts the calls that no RPC of ours answers: probes of health, reflection, and methods that do not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from samplerd_server.transport.rpc.arrival import note_begin

if TYPE_CHECKING:
    from samplerd_server.metrics.instruments import Cell

__all__ = ["Counted", "Unknown"]


class Counted(grpc.GenericRpcHandler):
    """Handlers whose calls are counted in one series."""

    depends_on_caller = True
    """`service` counts, so what it returns must not be cached."""

    def __init__(self, inner: grpc.GenericRpcHandler, calls: Cell) -> None:
        self._inner = inner
        self._calls = calls

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Give the handler of a method, and count the call if there is one."""
        handler = self._inner.service(handler_call_details)
        if handler is not None:
            self._calls.value += 1
            note_begin()
        return handler


class Unknown(grpc.GenericRpcHandler):
    """The last of all handlers: it answers no method, and counts the calls that come to it."""

    def __init__(self, calls: Cell) -> None:
        self._calls = calls

    def service(self, _details: grpc.HandlerCallDetails) -> None:
        """Count a call to a method that does not exist."""
        self._calls.value += 1
        note_begin()
