"""Calls of registered methods: they begin as soon as it is their turn, without grpcio's main loop and without tasks.

What grpcio does with a call is left to its own coroutines: they receive the message, run the handler, send the reply,
and cancel the handler when the client has gone. Only what runs them is ours (`eager_tasks`), and how the handler is
found: a registered method is known by its path before its call has begun.

Rule 1: what is called here are names of grpcio's own, which a later version may change: this module then cannot be
imported, and servers do without it. Rule 2: each call has a context of its own, a copy of that in which the server was
made, since one call may begin in the middle of another. Rule 3: no handler needs `asyncio.current_task`. Runs on the
event loop.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from grpc._cython import cygrpc

from samplerd_server.transport.grpcio.batches import Waiter
from samplerd_server.transport.grpcio.eager_tasks import EagerTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from samplerd_server.transport.grpcio.arrivals import Arrivals
    from samplerd_server.transport.grpcio.lines import Turn

__all__ = ["DirectCalls"]

_handle, _schedule = cygrpc._handle_rpc, cygrpc._schedule_rpc_coro  # noqa: SLF001
_ASKED = (
    cygrpc.AioServer._make_request_call_future,  # noqa: SLF001
    cygrpc.AioServer._request_registered_call,  # noqa: SLF001
    cygrpc.AioServer.add_registered_method_handlers,
)
"""What `Acceptor` needs for registered methods: grpcio has all of them, or this module is not used."""


class DirectCalls:
    """The calls of one method of one server."""

    def __init__(self, path: str, handlers: Sequence[grpc.GenericRpcHandler], arrivals: Arrivals) -> None:
        """Take the method's path, /SERVICE/METHOD, what gives its handler, and what is told of every call."""
        self.path = path
        self.handlers = tuple(handlers)
        self.arrivals = arrivals
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()

    def begin(self, turn: Turn) -> None:
        """Begin a call whose turn it is."""
        loop, call = self._loop, turn.call
        handling = EagerTask(loop, self._context.copy())
        resolver = _Resolver(self, turn, handling)
        handled = _handle(self.path, resolver, (), call, Waiter(loop, handling), False)  # noqa: FBT003  # no limit
        watching = EagerTask(loop, None)
        watching.run(_schedule(handled, call, Waiter(loop, watching, handling), self.path))


class _Resolver:
    """What grpcio asks for the handler of one call, in the call's context."""

    __slots__ = ("_calls", "_task", "_turn")

    def __init__(self, calls: DirectCalls, turn: Turn, task: EagerTask) -> None:
        self._calls = calls
        self._turn = turn
        self._task = task

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Take note of the call, and give its handler."""
        calls = self._calls
        calls.arrivals.begin(details, self._turn, self._task)
        for handlers in calls.handlers:
            handler = handlers.service(details)
            if handler is not None:
                return handler
        return None
