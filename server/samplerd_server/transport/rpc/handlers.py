"""The table of handlers that a transport runs: our services, health, and reflection where it is wanted.

The seam between the service and its transports is gRPC's own: generic handlers and a servicer context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.metrics.metrics import RpcLabels
from samplerd_server.transport.rpc.auth import Authenticated
from samplerd_server.transport.rpc.reflection import reflection_handlers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import grpc

    from samplerd_server.transport.rpc.observer import RpcObserver
    from samplerd_server.transport.rpc.service import SamplerService

__all__ = ["Handlers", "Service", "rpc_labels"]


def rpc_labels() -> Iterator[RpcLabels]:
    """Give every RPC of the contracts, as the metrics tell them apart."""
    for contract in (pb.DESCRIPTOR, oip.DESCRIPTOR):
        for service in contract.services_by_name.values():
            for method in service.methods:
                grpc_type = "bidi_stream" if method.client_streaming else "unary"
                yield RpcLabels(service.full_name, method.name, grpc_type)


class Service(Protocol):
    """One gRPC service: its full name, and its handlers as grpcio wants them."""

    NAME: str

    def handlers(self) -> grpc.GenericRpcHandler:
        """Give the handlers of all its methods."""
        ...


class Handlers:
    """Everything that is served, with the health of it."""

    def __init__(
        self,
        service: SamplerService,
        *others: Service,
        has_reflection: bool,
        calls: RpcObserver,
        tokens: Sequence[bytes] = (),
    ) -> None:
        self.service = service
        self._served = (service.NAME, *(other.NAME for other in others))
        self.generic: list[grpc.GenericRpcHandler] = [
            Authenticated(own, tokens=tokens, calls=calls) if tokens else own
            for own in (service.handlers(), *(other.handlers() for other in others))
        ]
        """What to register with grpcio, or to look a method up in."""
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self)  # type: ignore[arg-type]  # it only registers
        if has_reflection:
            reflecting = reflection_handlers((*self._served, health.SERVICE_NAME))
            # Probes of health have no token; whoever asks for the contract has one.
            self.generic.append(Authenticated(reflecting, tokens=tokens, calls=None) if tokens else reflecting)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Take handlers as a grpcio server does: what generated code calls."""
        self.generic.extend(handlers)

    def add_registered_method_handlers(self, _service: str, _methods: Mapping[str, object]) -> None:
        """Ignore the second registration of what `add_generic_rpc_handlers` took."""

    async def set_serving(self) -> None:
        """Say that all services can be used."""
        for name in ("", *self._served):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Say NOT_SERVING for good, and refuse what is new."""
        await self._health.enter_graceful_shutdown()
        self.service.drain()
