"""What answers while the server starts: health is NOT_SERVING, and every other call is UNAVAILABLE.

Importing may take seconds and compiling kernels a minute; a port that refuses connections for so long looks like a
crash to whoever probes it. Rule 1: this needs neither torch nor numba, so it answers within a second. Rule 2: the real
server shares the port and begins to listen before this one stops, so that no connection is refused between them. Rule
3: only TCP, since a Unix socket's path can not be shared; one is served once the server is ready.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2

from samplerd_server.transport.grpcio.listen import PINGS, bind_port, check_free
from samplerd_server.transport.rpc.health import LIST_RESPONSE, list_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from grpc.aio import ServicerContext

    from samplerd_server.transport.grpcio.certificates import Certificates

__all__ = ["StartingServer"]

_RETRY_AFTER_MS = 1000
_GRACE_S = 2.0
"""Seconds in which calls that were just answered may end."""
_STATUS = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)


class StartingServer:
    """Answers for the server until that is ready."""

    def __init__(self, listen: Sequence[str], certificates: Certificates, *, are_held: bool = False) -> None:
        """Take the addresses; `are_held` says that somebody has made sure that nobody else listens on them."""
        self._listen = tuple(listen)
        self._certificates = certificates
        self._are_held = are_held
        self._server: grpc.aio.Server | None = None
        self._stopping = asyncio.Event()
        self.addresses: tuple[str, ...] = ()
        """The addresses of the real server, with the ports that the system chose."""

    async def start(self) -> None:
        """Listen and answer.

        Raises:
            BindError: an address cannot be listened on.
            ConfigError: a certificate or key cannot be used.

        """
        if not self._are_held:
            for address in self._listen:
                check_free(address)
        server = grpc.aio.server(options=(("grpc.so_reuseport", 1), *PINGS))
        server.add_generic_rpc_handlers((_Starting(self._stopping),))
        self.addresses = tuple(
            address if address.startswith("unix") else bind_port(server, address, self._certificates)
            for address in self._listen
        )
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Close the connections, whose clients connect to the real server then."""
        self._stopping.set()
        if self._server is not None:
            await self._server.stop(_GRACE_S)
            self._server = None


class _Starting(grpc.GenericRpcHandler):
    """Handlers of every method there is."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Give the handler of a method."""
        name = handler_call_details.method.removeprefix(f"/{health.SERVICE_NAME}/")
        if name == "Check":
            return grpc.unary_unary_rpc_method_handler(self._check, response_serializer=_serialize)
        if name == "List" and LIST_RESPONSE is not None:
            return grpc.unary_unary_rpc_method_handler(self._list)
        if name == "Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch, response_serializer=_serialize)
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _check(self, _request: bytes, _context: ServicerContext[Any, Any]) -> health_pb2.HealthCheckResponse:
        return _STATUS

    async def _list(self, _request: bytes, _context: ServicerContext[Any, Any]) -> bytes:
        return list_response({"": _STATUS.status})

    async def _watch(
        self, _request: bytes, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        yield _STATUS
        await self._stopping.wait()
        await self._refuse(None, context)

    async def _refuse(self, _messages: object, context: ServicerContext[Any, Any]) -> None:
        await context.abort(
            grpc.StatusCode.UNAVAILABLE,
            "the server is starting, and is not ready yet",
            (("grpc-retry-pushback-ms", str(_RETRY_AFTER_MS)),),
        )


def _serialize(message: health_pb2.HealthCheckResponse) -> bytes:
    return message.SerializeToString()
