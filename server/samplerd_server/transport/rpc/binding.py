"""From descriptors to what grpcio registers: each call is counted, timed, and its errors become statuses, here only.

The handlers have no serializers of grpcio's: bytes are decoded where the errors can name a field.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc.aio

from samplerd_server.transport.rpc.arrival import current_record
from samplerd_server.transport.rpc.call import Call
from samplerd_server.transport.rpc.descriptor import declared
from samplerd_server.transport.rpc.reply_bytes import COPIES, LEAST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from grpc.aio import ServicerContext

    from samplerd_server.transport.rpc.descriptor import Replies, Rpc
    from samplerd_server.transport.rpc.observer import RpcObserver
    from samplerd_server.transport.rpc.reply_bytes import ReplyBytes

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
    if rpc.replies is not None:
        return grpc.unary_stream_rpc_method_handler(_server_stream(rpc.name, owner, rpc.replies, observer))
    assert rpc.stream is not None, "an RPC that nobody answers. This is a bug."
    return grpc.stream_stream_rpc_method_handler(_bidi_stream(rpc.name, owner, rpc.stream, observer))


def _unary(
    name: str, owner: object, answer: Callable[[Any, bytes, Call], Coroutine[Any, Any, bytes]], observer: RpcObserver
) -> Callable[[bytes, ServicerContext[bytes, bytes]], Coroutine[Any, Any, bytes]]:
    begin, succeed, monotonic = observer.begin, observer.succeed, time.monotonic
    recorder = observer.recorder

    # A literal `async def`: grpcio runs anything else in a thread pool.
    async def handle(data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
        arrival = monotonic()
        begin(name)
        record = None if recorder is None else recorder.begin(context)
        if record is not None:
            record.bytes_in = len(data)
        try:
            call = Call(name, arrival, context)
            reply = await answer(owner, data, call)
            if len(reply) >= LEAST_BYTES:
                _hold(observer.replies, call, COPIES * len(reply))
        except BaseException as error:
            del data  # this frame may be kept for a while: see `_forget_frames` in observer.py
            await observer.fail(name, context, arrival, error)
            raise
        if record is not None:
            record.bytes_out = len(reply)
        succeed(name, context, monotonic() - arrival)
        return reply

    return handle


def _server_stream(
    name: str, owner: object, replies: Replies, observer: RpcObserver
) -> Callable[[bytes, ServicerContext[bytes, bytes]], Coroutine[Any, Any, None]]:
    async def handle(data: bytes, context: ServicerContext[bytes, bytes]) -> None:
        call = Call(name, time.monotonic(), context)
        async with observer.handle(name, context, call.arrival), aclosing(replies(owner, data, call)) as messages:
            record = current_record()
            if record is not None:
                record.bytes_in = len(data)
            del data  # as above
            async for message in messages:
                try:
                    await context.write(message)
                    if record is not None:
                        record.bytes_out += len(message)
                except grpc.aio.InternalError as error:
                    # grpcio raises this if the client goes away while a message is being written.
                    raise asyncio.CancelledError from error

    return handle


def _hold(replies: ReplyBytes, call: Call, size: int) -> None:
    """Count a large reply until the transport is done with the call."""
    caller = call.connection
    replies.take(caller, size)
    call.context.add_done_callback(lambda _: replies.give(caller, size))  # type: ignore[arg-type]  # its name for itself


def _bidi_stream(
    name: str, owner: object, stream: Callable[[Any, Call], Coroutine[Any, Any, None]], observer: RpcObserver
) -> Callable[[object, ServicerContext[bytes, bytes]], Coroutine[Any, Any, None]]:
    async def handle(_messages: object, context: ServicerContext[bytes, bytes]) -> None:
        call = Call(name, time.monotonic(), context)
        async with observer.handle(name, context, call.arrival):
            await stream(owner, call)

    return handle
