"""grpc.health.v1.Health: whether the services answer, to those who ask once, list all, or watch.

Rule 1: a watcher that reads slowly delays nobody: a change wakes watchers and does not wait for them. Rule 2: once the
server ends, every service stays NOT_SERVING. Rule 3: probes send no token. On the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from grpc.aio import ServicerContext

__all__ = ["HEALTH_METHODS", "LIST_RESPONSE", "SERVICE_NAME", "Health", "list_response"]

SERVICE_NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
HEALTH_METHODS = frozenset(f"/{SERVICE_NAME}/{name}" for name in ("Check", "List", "Watch"))
LIST_RESPONSE: Any = getattr(health_pb2, "HealthListResponse", None)
"""The reply of List; None = this version of grpcio-health-checking does not know it."""
_Response = health_pb2.HealthCheckResponse
_SERVING, _NOT_SERVING = _Response.SERVING, _Response.NOT_SERVING


def list_response(statuses: Mapping[str, Any]) -> bytes:
    """Encode the reply of List: the status of each service."""
    own = {service: _Response(status=status) for service, status in statuses.items()}
    reply: bytes = LIST_RESPONSE(statuses=own).SerializeToString()
    return reply


class Health:
    """The health of every service; all have the same."""

    def __init__(self, services: Iterable[str]) -> None:
        """Take the names of the services; the empty name, which stands for the whole server, is added."""
        self.services = ("", *services)
        self._is_serving = False
        self._is_ending = False
        self._is_closed = False
        self._changed = asyncio.Event()

    @property
    def is_serving(self) -> bool:
        """Whether the services are SERVING."""
        return self._is_serving

    def set_serving(self, *, is_serving: bool) -> None:
        """Set the health of every service, unless the server ends."""
        if not self._is_ending:
            self._set(is_serving=is_serving)

    def end(self) -> None:
        """Set the health of every service to NOT_SERVING for good."""
        self._is_ending = True
        self._set(is_serving=False)

    def close(self) -> None:
        """End every watch, once its watcher has been told the last change."""
        self._is_closed = True
        self._wake()

    def _set(self, *, is_serving: bool) -> None:
        if is_serving != self._is_serving:
            self._is_serving = is_serving
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """Give the handlers of its RPCs."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Check": grpc.unary_unary_rpc_method_handler(
                self._check, health_pb2.HealthCheckRequest.FromString, _Response.SerializeToString
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self._watch, health_pb2.HealthCheckRequest.FromString, _Response.SerializeToString
            ),
        }
        if LIST_RESPONSE is not None:
            methods["List"] = grpc.unary_unary_rpc_method_handler(self._list)
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    def _status(self, service: str) -> Any:
        if service not in self.services:
            return _Response.SERVICE_UNKNOWN
        return _SERVING if self._is_serving else _NOT_SERVING

    async def _check(
        self, request: health_pb2.HealthCheckRequest, context: ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        status = self._status(request.service)
        if status == _Response.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service; List names those there are")
        return _Response(status=status)

    async def _list(self, _request: bytes, _context: ServicerContext[Any, Any]) -> bytes:
        return list_response({service: self._status(service) for service in self.services})

    async def _watch(self, request: health_pb2.HealthCheckRequest, context: ServicerContext[Any, Any]) -> None:
        last = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != last:
                last = status
                await context.write(_Response(status=status))
            elif self._is_closed:
                return
            else:
                await changed.wait()
