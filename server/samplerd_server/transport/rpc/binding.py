"""From descriptors to what grpcio registers: each call is counted, timed, and its errors become statuses, here only.

The handlers have no serializers of grpcio's: bytes are decoded where the errors can name a field.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc

from samplerd_server.core.errors import OK
from samplerd_server.transport.rpc.call import Call
from samplerd_server.transport.rpc.descriptor import declared

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from grpc.aio import ServicerContext

    from samplerd_server.transport.rpc.descriptor import Rpc
    from samplerd_server.transport.rpc.observer import RpcObserver

__all__ = ["bind"]


def bind(owners: Iterable[object], observer: RpcObserver) -> dict[str, grpc.GenericRpcHandler]:
    """Give the handlers of every RPC that these objects answer, by the name of the service."""
    services: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
    for owner in owners:
        for rpc in declared(type(owner)):
            services.setdefault(rpc.service, {})[rpc.name] = _method_handler(rpc, owner, observer)
    return {name: grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()}


def _method_handler(rpc: Rpc, owner: object, observer: RpcObserver) -> grpc.RpcMethodHandler[bytes, bytes]:
    if rpc.answer is not None:
        return grpc.unary_unary_rpc_method_handler(_unary(rpc.name, owner, rpc.answer, observer))
    assert rpc.stream is not None, "an RPC that nobody answers. This is a bug."
    return grpc.stream_stream_rpc_method_handler(_bidi_stream(rpc.name, owner, rpc.stream, observer))


def _unary(
    name: str, owner: object, answer: Callable[[Any, bytes, Call], Coroutine[Any, Any, bytes]], observer: RpcObserver
) -> Callable[[bytes, ServicerContext[bytes, bytes]], Coroutine[Any, Any, bytes]]:
    begin, end, monotonic = observer.begin, observer.end, time.monotonic

    # A literal `async def`: grpcio runs anything else in a thread pool.
    async def handle(data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
        arrival = monotonic()
        begin(name)
        try:
            reply = await answer(owner, data, Call(name, arrival, context))
        except BaseException as error:
            await observer.fail(name, context, arrival, error)
            raise
        end(name, OK, monotonic() - arrival)
        return reply

    return handle


def _bidi_stream(
    name: str, owner: object, stream: Callable[[Any, Call], Coroutine[Any, Any, None]], observer: RpcObserver
) -> Callable[[object, ServicerContext[bytes, bytes]], Coroutine[Any, Any, None]]:
    async def handle(_messages: object, context: ServicerContext[bytes, bytes]) -> None:
        call = Call(name, time.monotonic(), context)
        async with observer.handle(name, context, call.arrival):
            await stream(owner, call)

    return handle
