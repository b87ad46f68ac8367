"""What an RPC is: its name, kind, messages and capability, declared once, on the method that answers it.

A class answers RPCs by methods that a `RpcService` decorates::

    @SAMPLER.unary("GetServerInfo", pb.GetServerInfoRequest, pb.GetServerInfoResponse)
    async def get_server_info(self, request: pb.GetServerInfoRequest, call: Call) -> pb.GetServerInfoResponse: ...

Everything else derives from these descriptors: grpcio's handlers (`binding`), the labels of metrics, the capabilities
that GetServerInfo lists, the services that health and reflection name. That the descriptors are those of the contract
is held by tests/unit/transport/rpc/test_descriptor.py.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from samplerd_server.metrics.rpc_labels import RpcLabels
from samplerd_server.transport.codec.parse import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import ServiceDescriptor

    from samplerd_server.transport.rpc.call import Call

__all__ = ["Answer", "Kind", "Replies", "Rpc", "RpcService", "declared", "rpcs_of"]

_Owner = TypeVar("_Owner")
_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)
_Handler = TypeVar("_Handler", bound=Callable[..., Any])

Answer = Callable[[Any, bytes, "Call"], Coroutine[Any, Any, bytes]]
"""Answers a unary call from bytes to bytes; the first argument is the object whose method was decorated."""
Replies = Callable[[Any, bytes, "Call"], AsyncGenerator[bytes, None]]
"""Answers one message with many: an async generator, asked for the next reply once the last one was written."""
_MARK = "__rpc__"


class Kind(StrEnum):
    """How many messages go each way, in the words of the metric label `grpc_type`."""

    UNARY = "unary"
    SERVER_STREAM = "server_stream"
    BIDI_STREAM = "bidi_stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One RPC."""

    service: str
    """The full name of its service: ``samplerd.v1.SamplerService``."""
    name: str
    kind: Kind
    request: type[Message]
    response: type[Message]
    capability: str | None
    """What GetServerInfo lists where this RPC works; None: it is not listed."""
    index: int
    """Its place in the contract: the order of every list of RPCs."""
    answer: Answer | None
    """Answers one call, if it is unary."""
    replies: Replies | None
    """Answers one call, if many messages answer one."""
    stream: Callable[[Any, Call], Coroutine[Any, Any, None]] | None
    """Serves one call, if it is a stream both ways."""
    is_health: bool = False
    """Whether it tells probes how the server is: they need no token."""

    @property
    def labels(self) -> RpcLabels:
        """How metrics tell it from others."""
        return RpcLabels(self.service, self.name, self.kind.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcService:
    """One service of a contract; its methods are decorators that declare who answers an RPC."""

    contract: ServiceDescriptor
    lists_capabilities: bool
    """Whether GetServerInfo lists its RPCs by name."""

    def unary(
        self, name: str, request: type[_Request], response: type[_Response], *, is_health: bool = False
    ) -> Callable[
        [Callable[[_Owner, _Request, Call], Coroutine[Any, Any, _Response]]],
        Callable[[_Owner, _Request, Call], Coroutine[Any, Any, _Response]],
    ]:
        """Declare a handler from message to message."""

        def declare(
            handler: Callable[[_Owner, _Request, Call], Coroutine[Any, Any, _Response]],
        ) -> Callable[[_Owner, _Request, Call], Coroutine[Any, Any, _Response]]:
            async def answer(owner: _Owner, data: bytes, call: Call) -> bytes:
                reply = await handler(owner, parse(request, data), call)
                return reply.SerializeToString()

            rpc = self._describe(name, Kind.UNARY, request, response, answer=answer, is_health=is_health)
            return self._mark(handler, rpc)

        return declare

    def unary_bytes(
        self, name: str, request: type[Message], response: type[Message]
    ) -> Callable[
        [Callable[[_Owner, bytes, Call], Coroutine[Any, Any, bytes]]],
        Callable[[_Owner, bytes, Call], Coroutine[Any, Any, bytes]],
    ]:
        """Declare a handler from bytes to bytes, for requests whose rows must not be copied by parsing them."""

        def declare(
            handler: Callable[[_Owner, bytes, Call], Coroutine[Any, Any, bytes]],
        ) -> Callable[[_Owner, bytes, Call], Coroutine[Any, Any, bytes]]:
            return self._mark(handler, self._describe(name, Kind.UNARY, request, response, answer=handler))

        return declare

    def server_stream(
        self, name: str, request: type[Message], response: type[Message]
    ) -> Callable[[Callable[[_Owner, bytes, Call], AsyncGenerator[bytes, None]]], Replies]:
        """Declare an async generator from the bytes of the request to those of each reply."""

        def declare(handler: Callable[[_Owner, bytes, Call], AsyncGenerator[bytes, None]]) -> Replies:
            return self._mark(handler, self._describe(name, Kind.SERVER_STREAM, request, response, replies=handler))

        return declare

    def bidi_stream(
        self, name: str, request: type[Message], response: type[Message]
    ) -> Callable[
        [Callable[[_Owner, Call], Coroutine[Any, Any, None]]], Callable[[_Owner, Call], Coroutine[Any, Any, None]]
    ]:
        """Declare a handler that reads and writes the messages of its call itself."""

        def declare(
            handler: Callable[[_Owner, Call], Coroutine[Any, Any, None]],
        ) -> Callable[[_Owner, Call], Coroutine[Any, Any, None]]:
            return self._mark(handler, self._describe(name, Kind.BIDI_STREAM, request, response, stream=handler))

        return declare

    def _describe(
        self,
        name: str,
        kind: Kind,
        request: type[Message],
        response: type[Message],
        *,
        answer: Answer | None = None,
        replies: Replies | None = None,
        stream: Callable[[Any, Call], Coroutine[Any, Any, None]] | None = None,
        is_health: bool = False,
    ) -> Rpc:
        return Rpc(
            service=self.contract.full_name,
            name=name,
            kind=kind,
            request=request,
            response=response,
            capability=name if self.lists_capabilities else None,
            index=self.contract.methods_by_name[name].index,
            answer=answer,
            replies=replies,
            stream=stream,
            is_health=is_health,
        )

    @staticmethod
    def _mark(handler: _Handler, rpc: Rpc) -> _Handler:
        setattr(handler, _MARK, rpc)
        return handler


def declared(owner: type) -> Iterator[Rpc]:
    """Give the RPCs that the methods of a class answer."""
    for member in vars(owner).values():
        rpc = getattr(member, _MARK, None)
        if isinstance(rpc, Rpc):
            yield rpc


def rpcs_of(*owners: type) -> tuple[Rpc, ...]:
    """Give the RPCs that these classes answer, service by service, in the order of the contract."""
    rpcs = [rpc for owner in owners for rpc in declared(owner)]
    services = list(dict.fromkeys(rpc.service for rpc in rpcs))
    return tuple(sorted(rpcs, key=lambda rpc: (services.index(rpc.service), rpc.index)))
