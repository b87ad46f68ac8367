"""Takes calls over from grpcio as soon as they come, and begins them in an order of its own.

grpc.aio asks for one call at a time, and for the next once its main loop has seen the last, which takes some turns of
the event loop; all others wait inside grpcio in the order in which they came. Here several requests for calls are open
at once, what they bring waits in `Lines`, and the main loop gets from there whose turn it is.

Rule 1: what is overridden and called here are names of grpcio's own, which a later version may change: this module then
cannot be imported, or `is_used` tells that grpcio's main loop takes no calls from here, and servers do without it.
Rule 2: a call that never begins is answered all the same: `refuse`, `_answer_cut`. Rule 3: what happens to each call
here waits for one future at a time, and so needs no task, which takes more turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from grpc import StatusCode
from grpc._cython import cygrpc
from grpc.aio import _server

from samplerd_server.core.errors import OverloadedError, UnavailableError
from samplerd_server.transport.grpcio import batches
from samplerd_server.transport.rpc.call import peer_of
from samplerd_server.transport.rpc.observer import abort

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    import grpc

    from samplerd_server.core.errors import SamplerdError
    from samplerd_server.transport.grpcio.arrivals import Arrivals
    from samplerd_server.transport.grpcio.lines import Lines, Turn
    from samplerd_server.transport.grpcio.resets import Resets
    from samplerd_server.transport.rpc.arrival import Arrival

__all__ = ["Acceptor", "make_server"]

_Context = cygrpc._ServicerContext  # noqa: SLF001  # a call's context before its handler has begun
_RequestCallError = cygrpc._RequestCallError  # noqa: SLF001  # grpcio has no call to give, or ends
_RETRY_AFTER_S = 1.0
"""The second in which too many calls were reset is over by then."""
_MOST_WAITING = 1 << 14
"""Most calls of all connections that wait for their turn: the calls of sixteen at the default
`max_concurrent_streams`, and the rows of a full queue at the default `queue_rows`."""
_REQUESTS = 8
"""Requests for calls that are open at once: so many calls may come in one turn of the loop."""


def make_server(
    options: Sequence[tuple[str, int]],
    lines: Lines,
    resets: Resets,
    refused: Callable[[SamplerdError, str], None],
    most_open: int,
) -> tuple[grpc.aio.Server, Acceptor]:
    """Make a server.

    Args:
        options: of grpcio.
        lines: where its calls take turns.
        resets: knows which connections reset their calls.
        refused: is told why a call of a peer was refused.
        most_open: calls that a connection may have open.

    """
    batches.install()
    acceptor = Acceptor(asyncio.get_running_loop(), None, [], (), tuple(options), None)
    acceptor.lines, acceptor.resets, acceptor.refused, acceptor.most_open = lines, resets, refused, most_open
    return cast("grpc.aio.Server", _Server(acceptor)), acceptor


class _Server(_server.Server):
    """grpc.aio's server around an acceptor."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = acceptor


def _run(coroutine: Coroutine[Any, Any, Any], end: Callable[[Any, Exception | None], None]) -> None:
    """Run a coroutine of grpcio's that waits for futures, and tell `end` what it returned or raised."""
    try:
        future = coroutine.send(None)
    except StopIteration as done:
        end(done.value, None)
    except (cygrpc.BaseError, _RequestCallError) as error:
        end(None, error)
    else:
        future._asyncio_future_blocking = False  # noqa: SLF001  # what a task does with what it waits for
        future.add_done_callback(lambda _: _run(coroutine, end))


class Acceptor(cygrpc.AioServer):  # type: ignore[misc]  # the types leave it out
    """What a server of grpc.aio is made of."""

    lines: Lines
    resets: Resets
    refused: Callable[[SamplerdError, str], None]
    most_open: int
    arrivals: Arrivals
    """Is told of every call that it takes over."""
    is_used = False
    """Whether grpcio's main loop takes its calls from here."""
    refusing = 0
    """Calls whose refusals have not been sent."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._wanted: asyncio.Future[Any] | None = None

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """Give grpcio's main loop the future of the next call."""
        assert method is None, "a registered method. This is a bug."
        wanted = self._wanted = asyncio.get_running_loop().create_future()
        if not self.is_used:
            self.is_used = True
            self.arrivals.handed, self.arrivals.ended = deque(), self._ended
            for _ in range(_REQUESTS):
                _run(self._request_call(), self._came)
        assert self.arrivals.handed is not None, "arrivals were changed. This is a bug."
        self.lines.ask(wanted, self.arrivals.handed)
        return wanted

    def _came(self, call: object, error: Exception | None) -> None:
        """Let the call wait for its turn that has come, and ask for another."""
        if error is not None and not (self.is_running() and isinstance(error, _RequestCallError)):
            # The main loop ends, as it does when its own request for a call fails.
            if self._wanted is not None and not self._wanted.done():
                self._wanted.set_exception(error)
            return
        if self.is_running():
            _run(self._request_call(), self._came)
        if error is not None:
            return
        came = self.arrivals.take()
        peer = peer_of(_Context(call, None, None, asyncio.get_running_loop()))
        if not self.is_running():
            self._refuse_late(call, peer)
        elif (refusal := self._refusal(peer)) is not None:
            self.refused(refusal, peer)
            self.refuse(call, refusal)
        else:
            self.lines.add(peer, call, came)

    def _refusal(self, peer: str) -> SamplerdError | None:
        """Say why a call that has come may not wait; None = it may.

        Of the calls of a connection that wait, no more than `most_open` are open; the others were reset by the caller,
        as one in good faith does when their deadlines pass. On a Unix socket many callers may share one peer.
        """
        most = _MOST_WAITING if peer.startswith("unix") else 2 * self.most_open
        if self.resets.are_too_many(peer) or self.lines.waiting_of(peer) >= most:
            why = "this connection resets most of its calls"
            return OverloadedError(why, reason="resets", retry_after_s=_RETRY_AFTER_S)
        if self.lines.waiting >= _MOST_WAITING:
            return OverloadedError("too many calls wait", reason="waiting_calls", retry_after_s=_RETRY_AFTER_S)
        return None

    def _ended(self, turn: Turn, arrival: Arrival) -> None:
        """Count a call that has ended. On a Unix socket many callers may share one peer: one that dies resets all."""
        peer = str(turn.connection)
        if not arrival.has_begun:
            self._answer_cut(turn.call)
        if peer.startswith("unix"):
            return
        is_reset = arrival.was_cancelled
        if not arrival.has_begun:
            remaining = _Context(turn.call, None, None, asyncio.get_running_loop()).time_remaining()
            is_reset = remaining is None or remaining > 0
        self.resets.note(peer, is_reset=is_reset)

    def _answer_cut(self, call: object) -> None:
        """Answer a call that ended without a handler, if it has no answer yet: its body ended before its message.

        grpcio itself leaves such a call open. It refuses to answer one that has an answer, or that is over.
        """
        context = _Context(call, None, None, asyncio.get_running_loop())
        _run(context.abort(StatusCode.INTERNAL, "the body ends before its message"), lambda *_: None)

    def refuse(self, call: object, error: SamplerdError) -> None:
        """Answer a call that will never begin."""
        self.arrivals.dropped += 1
        context = _Context(call, None, None, asyncio.get_running_loop())
        self.refusing += 1
        _run(abort(context, error), self._refused)

    def _refused(self, *_: object) -> None:
        self.refusing -= 1

    def refuse_all(self, turns: Sequence[Turn]) -> None:
        """Answer calls that will never begin, since the server stops."""
        for turn in turns:
            self._refuse_late(turn.call, str(turn.connection))

    def _refuse_late(self, call: object, peer: str) -> None:
        refusal = UnavailableError("the server is stopping; ask another one")
        self.refused(refusal, peer)
        self.refuse(call, refusal)
