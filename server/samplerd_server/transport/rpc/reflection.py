"""Reflection: tools such as grpcurl and buf curl ask the server for its contract.

grpcio's servicer answers. Added here: it finds methods too, and answers by the service name that newer tools try first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from samplerd_server.transport.rpc.contract import ContractPool, find_method
from samplerd_server.transport.rpc.stream import ignore_outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from grpc.aio import ServicerContext

__all__ = ["SERVICE_NAMES", "Reflection"]

SERVICE_NAMES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
"""Both names of the service: their messages are the same on the wire."""


class Reflection:
    """Serves the contracts of some services, and reflection's own."""

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names of the services."""
        self._servicer = _Servicer((*names, *SERVICE_NAMES), pool=ContractPool())

    def handler(self) -> grpc.GenericRpcHandler:
        """Give the handlers of its RPC, under both names of the service."""
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            self._servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return _ByPath({f"/{name}/ServerReflectionInfo": handler for name in SERVICE_NAMES})

    def close(self) -> None:
        """End every stream."""
        self._servicer.closed.set()


class _Servicer(reflection.aio.ReflectionServicer):
    def __init__(self, names: Iterable[str], pool: ContractPool) -> None:
        super().__init__(names, pool=pool)
        self.closed = asyncio.Event()

    async def ServerReflectionInfo(self, _: object, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]  # noqa: N802
        """Answer until the client is done, or every stream is to end."""
        answers: Any = super().ServerReflectionInfo(self._requests(context), context)
        async for answer in answers:
            yield answer

    async def _requests(self, context: ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        closed = asyncio.ensure_future(self.closed.wait())
        try:
            while True:
                reading = asyncio.ensure_future(context.read())
                await asyncio.wait({reading, closed}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.add_done_callback(ignore_outcome)  # grpcio ends it by itself, and that frees its memory
                    return
                request = reading.result()
                if request is grpc.aio.EOF:
                    return
                yield request
        finally:
            closed.cancel()

    def _file_containing_symbol(self, request: object, name: str) -> Any:
        """Find the file of a symbol. That of a method is its service's, which grpcio's servicer does not find."""
        service, _, method = name.rpartition(".")
        find = super()._file_containing_symbol  # type: ignore[misc]  # the types leave it out
        return find(request, name if find_method(service, method) is None else service)


class _ByPath(grpc.GenericRpcHandler):
    """Handlers by the path of the method."""

    def __init__(self, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handlers.get(handler_call_details.method)
