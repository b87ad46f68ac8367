"""Reflection: tools such as grpcurl and buf curl ask the server for its contract.

grpcio's servicer answers. Added here: it finds methods too, and answers by the service name that newer tools try first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from samplerd_server.transport.rpc.contract import ContractPool, find_method

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SERVICE_NAMES", "reflection_handlers"]

SERVICE_NAMES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
"""Both names of the service: their messages are the same on the wire."""


class _Servicer(reflection.aio.ReflectionServicer):
    def _file_containing_symbol(self, request: object, name: str) -> Any:
        """Find the file of a symbol. That of a method is its service's, which grpcio's servicer does not find."""
        service, _, method = name.rpartition(".")
        find = super()._file_containing_symbol  # type: ignore[misc]  # the types leave it out
        return find(request, name if find_method(service, method) is None else service)


def reflection_handlers(names: Iterable[str]) -> grpc.GenericRpcHandler:
    """Serve the contracts of these services, and reflection's own."""
    servicer = _Servicer((*names, *SERVICE_NAMES), pool=ContractPool())
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return _ByPath({f"/{name}/ServerReflectionInfo": handler for name in SERVICE_NAMES})


class _ByPath(grpc.GenericRpcHandler):
    """Handlers by the path of the method."""

    def __init__(self, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handlers.get(handler_call_details.method)
