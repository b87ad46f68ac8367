"""The transport ``envoy``, inside: an ASGI application that runs gRPC's generic handlers over HTTP/2.

Rule 1: it runs the very handlers that grpc.aio runs. Rule 2: a call that ends, whichever way, leaves no task and no
timer behind. Rule 3: a client that goes away cancels its handler; a deadline that passes does too, and is answered.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from samplerd_server.errors import Code
from samplerd_server.transport.asgi_context import Aborted, AsgiContext, DisconnectedError
from samplerd_server.transport.frames import FrameError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

__all__ = ["AsgiApp"]

_LOG = logging.getLogger("samplerd.transport")
_CONTENT_TYPE = b"application/grpc"


@dataclass(frozen=True, slots=True)
class _CallDetails(grpc.HandlerCallDetails):
    method: str
    invocation_metadata: tuple[Any, ...] = ()


class AsgiApp:
    """Answers the calls of one ASGI server."""

    def __init__(self, generic: Sequence[grpc.GenericRpcHandler], *, max_message_bytes: int) -> None:
        self._generic = tuple(generic)
        self._max_message_bytes = max_message_bytes
        self._methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one call."""
        if not _is_grpc(scope):
            await _refuse(send)
            return
        handler = self._look_up(scope["path"])
        try:
            context = AsgiContext(
                scope,
                receive,
                send,
                max_message_bytes=self._max_message_bytes,
                deserialize=handler.request_deserializer if handler else None,
                serialize=handler.response_serializer if handler else None,
            )
        except FrameError as error:
            context = AsgiContext(
                {**scope, "headers": ()}, receive, send, max_message_bytes=0, deserialize=None, serialize=None
            )
            await context.end(error.code, error.message)
            return
        if handler is None:
            await context.end(Code.UNIMPLEMENTED, f"unknown method {scope['path']}")
            return
        await _Guard(context).run(handler)

    def _look_up(self, path: str) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = self._methods.get(path)
        if handler is None:
            for generic in self._generic:
                handler = generic.service(_CallDetails(path))
                if handler is not None:
                    # Only methods that exist are remembered, so clients cannot make this grow.
                    self._methods[path] = handler
                    break
        return handler


def _is_grpc(scope: Mapping[str, Any]) -> bool:
    return scope["method"] == "POST" and any(
        name == b"content-type" and value.startswith(_CONTENT_TYPE) for name, value in scope["headers"]
    )


async def _refuse(send: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"accept-post", _CONTENT_TYPE)]
    await send({"type": "http.response.start", "status": 415, "headers": headers})
    await send({"type": "http.response.body", "body": b"this is a gRPC server\n"})


class _Guard:
    """Runs one handler, and cancels it when its client goes or its deadline passes."""

    __slots__ = ("_context", "_is_disconnected", "_is_late", "_loop", "_task", "_timer", "_watch", "_watcher")

    def __init__(self, context: AsgiContext) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._is_disconnected = False
        self._is_late = False
        remaining = context.time_remaining()
        self._timer = None if remaining is None else self._loop.call_later(remaining, self._expire)
        self._watch: asyncio.Handle | None = None
        self._watcher: asyncio.Task[None] | None = None
        context.on_read = self._watch_soon

    async def run(self, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
        context = self._context
        try:
            await _dispatch(handler, context)
        except Aborted as abort:
            await context.end(abort.code, abort.details, abort.trailers)
        except FrameError as error:
            await context.end(error.code, error.message)
        except DisconnectedError:
            pass
        except asyncio.CancelledError:
            if self._is_late:
                await context.end(Code.DEADLINE_EXCEEDED, "the deadline passed")
            elif not self._is_disconnected:
                raise
        except Exception:  # noqa: BLE001  # whatever it is, it must not reach the client
            _LOG.exception("a handler raised")
            await context.end(Code.INTERNAL, "internal error; the server's log has the cause")
        finally:
            self._task = None
            if self._timer is not None:
                self._timer.cancel()
            if self._watch is not None:
                self._watch.cancel()
            # A watcher that runs is left to end by itself, as it does with the call: pyvoy resolves the future that it
            # waits for even when nobody does any more, and complains of one that was cancelled.

    def _expire(self) -> None:
        self._is_late = True
        self._cancel()

    def _watch_soon(self) -> None:
        # A handler that never waits needs no watcher; one that does gets it on the loop's next turn.
        if self._watch is None:
            self._watch = self._loop.call_soon(self._start_watcher)

    def _start_watcher(self) -> None:
        self._watcher = self._loop.create_task(self._wait_disconnect())

    async def _wait_disconnect(self) -> None:
        await self._context.wait_disconnect()
        self._is_disconnected = True
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _dispatch(handler: grpc.RpcMethodHandler[Any, Any], context: AsgiContext) -> None:
    """Call a handler of any of the four shapes."""
    if handler.request_streaming:
        argument: Any = context.messages()
        function = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        argument = await context.read()
        if argument is grpc.aio.EOF:
            raise FrameError(Code.INTERNAL, "a unary call without a message")
        context.on_read()
        function = handler.unary_stream if handler.response_streaming else handler.unary_unary
    assert function is not None, "a handler without a function. This is a bug."
    outcome: Any = function(argument, context)  # type: ignore[arg-type]  # the part of a context that handlers use
    if not handler.response_streaming:
        await context.reply(await outcome)
        return
    if inspect.isasyncgen(outcome):
        async for message in outcome:
            await context.write(message)
    else:
        await outcome
    await context.end(Code.OK)
