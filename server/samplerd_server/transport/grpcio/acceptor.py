"""Takes calls over from grpcio as soon as they come, and begins them in an order of its own.

grpc.aio asks for one call at a time, and for the next once its main loop has seen the last, which takes some turns of
the event loop; all others wait inside grpcio in the order in which they came. Here several requests for calls are open
at once, what they bring waits in `Lines`, and the main loop gets from there whose turn it is.

Rule 1: what is overridden and called here are names of grpcio's own, which a later version may change: `is_used` tells
whether its main loop still takes calls from here. Rule 2: a call that never begins is answered all the same: `refuse`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from grpc._cython import cygrpc
from grpc.aio import _server

from samplerd_server.core.errors import UnavailableError
from samplerd_server.transport.rpc.call import peer_of
from samplerd_server.transport.rpc.observer import abort

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    import grpc

    from samplerd_server.transport.grpcio.arrivals import Arrivals
    from samplerd_server.transport.grpcio.lines import Lines, Turn

__all__ = ["Acceptor", "make_server"]

_Context = cygrpc._ServicerContext  # noqa: SLF001  # a call's context before its handler has begun
_RequestCallError = cygrpc._RequestCallError  # noqa: SLF001  # grpcio has no call to give, or ends
_REQUESTS = 8
"""Requests for calls that are open at once: so many calls may come in one turn of the loop."""


def make_server(options: Sequence[tuple[str, int]], lines: Lines) -> tuple[grpc.aio.Server, Acceptor]:
    """Make a server whose calls take turns in `lines`."""
    acceptor = Acceptor(asyncio.get_running_loop(), None, [], (), tuple(options), None)
    acceptor.lines = lines
    return cast("grpc.aio.Server", _Server(acceptor)), acceptor


class _Server(_server.Server):
    """grpc.aio's server around an acceptor."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = acceptor


class Acceptor(cygrpc.AioServer):  # type: ignore[misc]  # the types leave it out
    """What a server of grpc.aio is made of."""

    lines: Lines
    arrivals: Arrivals
    """Is told of every call that it takes over."""
    is_used = False
    """Whether grpcio's main loop takes its calls from here."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._wanted: asyncio.Future[Any] | None = None
        self._refusing: set[asyncio.Task[None]] = set()

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """Give grpcio's main loop the future of the next call."""
        assert method is None, "a registered method. This is a bug."
        wanted = self._wanted = asyncio.get_running_loop().create_future()
        if not self.is_used:
            self.is_used = True
            self.arrivals.handed = deque()
            for _ in range(_REQUESTS):
                self._request()
        assert self.arrivals.handed is not None, "arrivals were changed. This is a bug."
        self.lines.ask(wanted, self.arrivals.handed)
        return wanted

    def _request(self) -> None:
        """Ask grpcio for a call. Its coroutine waits for one future; without a task that takes fewer turns."""
        requesting = self._request_call()
        try:
            future = requesting.send(None)
        except cygrpc.BaseError as error:
            self._fail(error)
            return
        future._asyncio_future_blocking = False  # noqa: SLF001  # what a task does with what it waits for
        future.add_done_callback(lambda _: self._came(requesting))

    def _came(self, requesting: Coroutine[Any, Any, Any]) -> None:
        """Let the call wait for its turn that has come."""
        try:
            requesting.send(None)
        except StopIteration as done:
            call = done.value
        except _RequestCallError as error:
            if self.is_running():
                self._request()
            else:
                self._fail(error)
            return
        came = self.arrivals.take()
        if self.is_running():
            self._request()
            self.lines.add(peer_of(_Context(call, None, None, asyncio.get_running_loop())), call, came)
        else:
            self.refuse(call)

    def _fail(self, error: Exception) -> None:
        """Let the main loop end, as it does when a request for a call fails."""
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_exception(error)

    def refuse(self, call: object) -> None:
        """Answer a call that will never begin."""
        self.arrivals.dropped += 1
        task = asyncio.ensure_future(_refuse(call))
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)

    def refuse_all(self, turns: Sequence[Turn]) -> None:
        """Answer calls that will never begin."""
        for turn in turns:
            self.refuse(turn.call)


async def _refuse(call: object) -> None:
    error = UnavailableError("the server is stopping")
    context = _Context(call, None, None, asyncio.get_running_loop())
    with contextlib.suppress(cygrpc.BaseError):  # raised once the status is sent, and if the call has ended before
        await abort(context, error)
