"""All handlers that a transport runs: our services, health, and reflection if it is turned on.

The seam between the service and its transports is gRPC's own: generic handlers and a servicer context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.transport.rpc.binding import bind
from samplerd_server.transport.rpc.descriptor import rpcs_of
from samplerd_server.transport.rpc.health import HEALTH_METHODS, SERVICE_NAME, Health
from samplerd_server.transport.rpc.other_calls import Counted, Unknown
from samplerd_server.transport.rpc.reflection import Reflection

if TYPE_CHECKING:
    import grpc

    from samplerd_server.transport.rpc.access import Access
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
        access: Access,
    ) -> None:
        """Bind the RPCs of all these objects; `service` is the one that is drained."""
        self.service = service
        own = bind((service, *others), observer)
        rpcs = rpcs_of(*map(type, (service, *others)))
        probes = frozenset(f"/{rpc.service}/{rpc.name}" for rpc in rpcs if rpc.is_health)
        self.generic: list[grpc.GenericRpcHandler] = [
            access.guard(handler, observer, probes) for handler in own.values()
        ]
        """What to register with grpcio, or to look a method up in."""
        self.health = Health(own)
        calls = observer.other_calls
        # Probes of health send no token; clients that ask for the contract must.
        self.generic.append(Counted(access.guard(self.health.handler(), None, HEALTH_METHODS), calls("health")))
        self._reflection = Reflection((*own, SERVICE_NAME))
        if has_reflection:
            reflection = access.guard(self._reflection.handler(), None)
            self.generic.append(Counted(reflection, calls("reflection")))
        self.generic.append(Unknown(calls("unknown")))

    def leave(self) -> None:
        """Set the health of every service to NOT_SERVING for good; requests are still answered."""
        self.health.end()
        self.service.leave()

    def drain(self) -> None:
        """Set the health of every service to NOT_SERVING for good, and refuse new requests."""
        self.health.end()
        self.service.drain()

    def close(self) -> None:
        """End the streams of health and of reflection, which last for as long as their clients want."""
        self.health.close()
        self._reflection.close()
