"""The ASGI application inside Envoy: it runs gRPC's generic handlers over HTTP/2.

Rule 1: it runs the same handlers as grpc.aio. Rule 2: a call leaves no task and no timer behind, however it ends. Rule
3: the handler is cancelled when its client disconnects or its deadline passes; a passed deadline is answered.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from samplerd_server.core.errors import Code, InternalError, SamplerdError, cut
from samplerd_server.transport.envoy.asgi_context import AsgiContext
from samplerd_server.transport.envoy.asgi_errors import Aborted
from samplerd_server.transport.envoy.asgi_headers import is_grpc, note_arrival
from samplerd_server.transport.envoy.asgi_watch import Watch
from samplerd_server.transport.envoy.cors import Origins
from samplerd_server.transport.envoy.frames import FrameError
from samplerd_server.transport.envoy.inference_http import InferenceContext
from samplerd_server.transport.envoy.reply_body import Replies
from samplerd_server.transport.envoy.web import refuse, web_call
from samplerd_server.transport.oip.http_routes import is_inference_path
from samplerd_server.transport.rpc.call import peer_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from samplerd_server.transport.envoy.intake import Intake
    from samplerd_server.transport.envoy.turns import Turns

__all__ = ["AsgiApp"]

_LOG = logging.getLogger("samplerd.transport")
_LATE = "the deadline passed"
_NO_TRAILERS = "te: trailers is missing; does a proxy on the way drop trailers?"


@dataclass(frozen=True, slots=True)
class _CallDetails(grpc.HandlerCallDetails):
    method: str
    invocation_metadata: tuple[tuple[str, str], ...]


class AsgiApp:
    """Answers the calls of one ASGI server."""

    def __init__(
        self,
        generic: Sequence[grpc.GenericRpcHandler],
        *,
        max_message_bytes: int,
        refuse: Callable[[str, BaseException, Any], None] | None = None,
        intake: Intake | None = None,
        turns: Turns | None = None,
        origins: Sequence[str] = (),
    ) -> None:
        self._generic = tuple(generic)
        self._origins = Origins(origins)
        self._max_message_bytes = max_message_bytes
        self._intake = intake
        self._turns = turns
        self._on_refusal = refuse
        self._methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._watch = Watch()
        self.running = 0
        """Calls that have begun here and not ended."""
        self.replies = Replies()
        """The replies of unary calls whose handlers are done."""

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one call."""
        self.running += 1
        try:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            note_arrival(headers)
            if scope["method"] != "POST" or not is_grpc(headers):
                await self._answer_web(scope, headers, receive, send)
                return
            context = AsgiContext(scope, headers, receive, send, self._max_message_bytes)
            if headers.get(b"te") != b"trailers" and context.problem is None:
                # Without this header pyvoy sends no trailers, and so no status.
                context.problem = FrameError(Code.INTERNAL, _NO_TRAILERS)
            await self._answer(scope["path"], context)
        finally:
            self.running -= 1

    async def _answer(self, path: str, context: AsgiContext) -> None:
        handler = self._methods.get(path) or self._look_up(path, context)
        if handler is None:
            await context.end(Code.UNIMPLEMENTED, f"unknown method {cut(path)}")
        elif context.problem is not None:
            self._refuse(path, context, context.problem)
            await context.fail(context.problem)
        else:
            context.intake = self._intake
            refuse = partial(self._refuse, path, context)
            await _Call(context, handler, self._watch, self.replies, refuse, turns=self._turns).run()

    def _refuse(self, path: str, context: AsgiContext, error: BaseException) -> None:
        """Count a call whose message could not be read."""
        if self._on_refusal is not None:
            self._on_refusal(path, error, context)

    async def _answer_web(
        self,
        scope: Mapping[str, Any],
        headers: dict[bytes, bytes],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a browser, curl or a client of Connect, and the preflight requests of CORS."""
        origin = headers.get(b"origin")
        if scope["method"] == "OPTIONS" and self._origins.allow(origin):
            await self._origins.answer_preflight(origin, send)
            return
        send = self._origins.wrap(origin, send)
        if is_inference_path(scope["path"]):
            headers.pop(b"grpc-timeout", None)
            call = InferenceContext(scope, headers, receive, send, self._max_message_bytes)
            if call.problem is None:
                await self._answer(call.path, call)
            else:
                await call.fail(call.problem)
            return
        context = web_call(scope, headers, receive, send, self._max_message_bytes)
        if context is None:
            await refuse(scope, send)
        else:
            await self._answer(scope["path"], context)

    def close(self) -> None:
        """Stop watching the calls that still wait, because the server ends."""
        self._watch.close()

    def _look_up(self, path: str, context: AsgiContext) -> grpc.RpcMethodHandler[Any, Any] | None:
        for generic in self._generic:
            handler = generic.service(_CallDetails(path, context.invocation_metadata()))
            if handler is not None:
                # Only existing methods are cached, so clients cannot make the cache grow.
                if not getattr(generic, "depends_on_caller", False):
                    self._methods[path] = handler
                return handler
        return None


class _Call:
    """Runs one handler, and cancels it when its client disconnects or its deadline passes."""

    __slots__ = (
        *("_answer", "_context", "_handler", "_is_late", "_refuse", "_replies", "_task", "_turns", "_watch"),
        *("pause_s", "poll_at"),
    )

    def __init__(
        self,
        context: AsgiContext,
        handler: grpc.RpcMethodHandler[Any, Any],
        watch: Watch,
        replies: Replies,
        refuse: Callable[[BaseException], None],
        *,
        turns: Turns | None,
    ) -> None:
        self._context = context
        self._handler = handler
        self._watch = watch
        self._replies = replies
        self._refuse = refuse
        self._turns = turns
        self._task: asyncio.Task[Any] | None = None
        self._answer: asyncio.Task[None] | None = None
        self._is_late = False
        self.pause_s = 0.0
        self.poll_at = 0.0

    async def run(self) -> None:
        context = self._context
        self._task = task = asyncio.current_task()
        assert task is not None, "ASGI without a task. This is a bug."
        loop = task.get_loop()
        remaining = context.time_remaining()
        timer = None if remaining is None else loop.call_later(remaining, self._expire)
        try:
            await self._dispatch(loop)
        except Aborted as abort:
            await context.end(abort.code, abort.details, abort.trailers)
        except SamplerdError as error:
            await context.fail(error)
        except asyncio.CancelledError as error:
            await self._end_cancelled(error)
        except Exception:  # noqa: BLE001  # no exception may reach the client
            _LOG.exception("a handler raised", extra={"values": {"request_id": context.arrival.request_id}})
            await context.fail(InternalError())
        finally:
            self._task = None
            self._watch.discard(self)
            if context.intake is not None:
                context.intake.keep(context, 0)
            context.finish()
            if timer is not None:
                timer.cancel()

    async def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call a handler of any of the four shapes."""
        handler, context = self._handler, self._context
        context.deserialize, context.serialize = handler.request_deserializer, handler.response_serializer
        if handler.request_streaming:
            context.on_read_all = lambda: self._watch.add(self, loop)
            argument: Any = context.messages()
            function = handler.stream_stream if handler.response_streaming else handler.stream_unary
        else:
            argument = await self._read_only()
            self._watch.add(self, loop)
            function = handler.unary_stream if handler.response_streaming else handler.unary_unary
        assert function is not None, "a handler without a function. This is a bug."
        outcome: Any = function(argument, context)  # type: ignore[arg-type]  # implements the part of a context that handlers use
        if not handler.response_streaming:
            message = await outcome
            self._replies.begin()
            try:
                await context.reply(message)
            finally:
                self._replies.end()
            return
        if inspect.isasyncgen(outcome):
            async for message in outcome:
                await context.write(message)
        else:
            await outcome
        await context.end(Code.OK)

    async def _read_only(self) -> Any:
        """Read the only message when it is this call's turn, or count why it could not be read."""
        try:
            if self._turns is None:
                message = await self._context.read_only()
            else:
                context = self._context
                context.arrival.connection = connection = peer_of(context)  # type: ignore[arg-type]  # implements this part
                message = await self._turns.run(connection, context.read_only)
        except BaseException as error:
            self._refuse(error)
            raise
        if message is grpc.aio.EOF:
            missing = FrameError(Code.INTERNAL, "a unary call without a message")
            self._refuse(missing)
            raise missing
        return message

    async def _end_cancelled(self, error: asyncio.CancelledError) -> None:
        if self._is_late:
            await self._context.end(Code.DEADLINE_EXCEEDED, _LATE)
        elif not self._context.is_gone:
            raise error

    def _expire(self) -> None:
        self._is_late = True
        task, context = self._task, self._context
        if task is not None and context.is_held(task):
            # The task waits for the client: the answer ends the call, and with it the wait.
            self._answer = task.get_loop().create_task(context.end(Code.DEADLINE_EXCEEDED, _LATE))
        elif task is not None:
            task.cancel()

    def poll(self) -> asyncio.Future[Mapping[str, Any]]:
        """Ask pyvoy for the next event of the client."""
        return self._context.poll()

    def on_disconnect(self) -> None:
        """Cancel the handler, because the client has disconnected."""
        self._context.is_gone = True
        if self._task is not None and not self._context.is_held(self._task):
            self._task.cancel()
