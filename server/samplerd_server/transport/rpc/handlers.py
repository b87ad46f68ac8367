"""All handlers that a transport runs: our services, health, and reflection if it is turned on.

The seam between the service and its transports is gRPC's own: generic handlers and a servicer context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from samplerd_server.transport.rpc.auth import Authenticated
from samplerd_server.transport.rpc.binding import bind
from samplerd_server.transport.rpc.descriptor import rpcs_of
from samplerd_server.transport.rpc.reflection import reflection_handlers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import grpc

    from samplerd_server.transport.rpc.observer import RpcObserver
    from samplerd_server.transport.rpc.service import SamplerService

__all__ = ["Handlers"]


class Handlers:
    """All handlers, and the health of every service."""

    def __init__(
        self,
        service: SamplerService,
        *others: object,
        has_reflection: bool,
        observer: RpcObserver,
        tokens: Sequence[bytes] = (),
    ) -> None:
        """Bind the RPCs of all these objects; `service` is the one that is drained."""
        self.service = service
        own = bind((service, *others), observer)
        rpcs = rpcs_of(*map(type, (service, *others)))
        probes = frozenset(f"/{rpc.service}/{rpc.name}" for rpc in rpcs if rpc.is_health)
        self._served = tuple(own)
        self.generic: list[grpc.GenericRpcHandler] = [
            Authenticated(handler, tokens=tokens, observer=observer, exempt=probes) if tokens else handler
            for handler in own.values()
        ]
        """What to register with grpcio, or to look a method up in."""
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self)  # type: ignore[arg-type]  # it only registers
        if has_reflection:
            reflecting = reflection_handlers((*self._served, health.SERVICE_NAME))
            # Probes of health send no token; clients that ask for the contract must.
            self.generic.append(Authenticated(reflecting, tokens=tokens, observer=None) if tokens else reflecting)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Take handlers as a grpcio server does: what generated code calls."""
        self.generic.extend(handlers)

    def add_registered_method_handlers(self, _service: str, _methods: Mapping[str, object]) -> None:
        """Ignore the second registration of what `add_generic_rpc_handlers` took."""

    async def set_serving(self) -> None:
        """Set the health of every service to SERVING."""
        for name in ("", *self._served):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Set the health of every service to NOT_SERVING for good, and refuse new requests."""
        await self._health.enter_graceful_shutdown()
        self.service.drain()
