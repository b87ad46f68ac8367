"""Counts and times every call, and turns its errors into gRPC statuses.

Rule 1: whatever is not a `SamplerdError` is a bug of ours: logged with its cause, answered INTERNAL with a fixed text.
Rule 2: a cancelled call is re-raised as such; swallowing CancelledError leaks memory inside grpcio. Rule 3: handlers
stay literal ``async def``: grpcio runs anything else in a thread pool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import grpc

from samplerd_server.config.credentials import ANONYMOUS
from samplerd_server.core.errors import (
    OK,
    Code,
    FullError,
    InternalError,
    MessageTooLargeError,
    OverloadedError,
    SamplerdError,
    UnavailableError,
)
from samplerd_server.transport.codec.status import trailers_of
from samplerd_server.transport.rpc.arrival import ARRIVED, current_request_id, note_begin
from samplerd_server.transport.rpc.caller import CALLER
from samplerd_server.transport.rpc.refusal_log import RefusalLog
from samplerd_server.transport.rpc.request_id import REQUEST_ID

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from samplerd_server.metrics.instruments import Cell
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.rpc.recorder import Recorder
    from samplerd_server.transport.rpc.reply_bytes import ReplyBytes

__all__ = ["RpcObserver", "abort"]

_LOG = logging.getLogger("samplerd.transport")
_CLOCKS_DIFFER_S = 1e-3
"""grpcio ends calls by another clock than the one by which it tells the remaining time: they differ by less."""
_REFUSALS = (FullError, MessageTooLargeError, OverloadedError, UnavailableError)
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RpcObserver:
    """Counts calls, those in flight too, and ends the failed ones with their status."""

    def __init__(self, metrics: Metrics, replies: ReplyBytes, recorder: Recorder | None = None) -> None:
        self._metrics = metrics
        self.recorder = recorder if recorder is not None and recorder.is_on else None
        """Makes a record of each call; None = none has one."""
        self.refusals = RefusalLog(_LOG.name)
        """The log of the requests that were refused for lack of room or time."""
        self.replies = replies
        """The bytes of large replies that are being sent."""
        self._idle: asyncio.Event | None = None
        """Set when no call is in flight. It exists only while somebody waits for it: it costs time in each call."""
        self.in_flight = 0
        """Calls that have begun and not ended."""
        self.begun = 0
        """Calls that have begun since the start."""
        self.unread = 0
        """Calls that ended before their message had come, of those that the transport does not count itself."""

    def handle(self, rpc: str, context: ServicerContext[bytes, bytes], began: float) -> _Observed:
        """Surround the body of a handler: ``async with observer.handle(...):``.

        Unary calls, which are the most frequent, use `begin`, `fail` and `end` instead: two coroutines fewer.
        """
        return _Observed(self, rpc, context, began)

    def other_calls(self, kind: str) -> Cell:
        """Give the series of the calls of no RPC of ours, of this kind, to add to directly."""
        return self._metrics.other_calls.cell(kind)

    def begin(self, rpc: str) -> None:
        """Count a call that begins."""
        note_begin()
        self._metrics.rpc_started(rpc)
        self.in_flight += 1
        self.begun += 1

    def refuse(self, path: str, error: BaseException, context: ServicerContext[bytes, bytes]) -> None:
        """Count a call whose message the transport could not read, of any path: /SERVICE/METHOD.

        Args:
            path: that of the RPC.
            error: a SamplerdError = the call was answered with it; any other = its caller has gone, or its deadline
                has passed.
            context: that of the call.

        """
        rpc = path.rpartition("/")[2]
        if not isinstance(error, SamplerdError):
            self.unread += 1
        elif self._metrics.is_served(path):
            if self.recorder is not None:
                self.recorder.begin(context)
            self.begin(rpc)
            self._count(error)
            self.log_refusal(rpc, error, context)
            self.end(rpc, error.code, 0.0)

    def refuse_unseen(self, error: SamplerdError, peer: str) -> None:
        """Count and log a call of a peer that was refused before anything was read of it."""
        self._metrics.shed.add(1, "draining" if isinstance(error, UnavailableError) else error.reason)
        self.refusals.refused(error.reason.lower(), code=error.code.name, peer=peer, why=error.message)

    def _count(self, error: SamplerdError) -> None:
        """Count what no code tells of an error."""
        if isinstance(error, MessageTooLargeError):
            self._metrics.shed.add(1, "message_bytes")

    def log_refusal(self, rpc: str, error: SamplerdError, context: ServicerContext[bytes, bytes]) -> None:
        """Log a call, or a request of a stream, that was refused for lack of room or time; no other error.

        Args:
            rpc: the name of its RPC.
            error: why.
            context: that of the call.

        """
        if isinstance(error, _REFUSALS):
            self.refusals.refused(
                error.reason.lower(),
                method=self._metrics.path_of(rpc),
                code=error.code.name,
                identity=CALLER.get() or ANONYMOUS,
                peer=context.peer(),
                request_id=current_request_id(),
                why=error.message,
            )

    def succeed(self, rpc: str, context: ServicerContext[bytes, bytes], seconds: float) -> None:
        """Count a call that ended well, `seconds` after its handler began, and tell its request id if one was sent."""
        arrival = ARRIVED.get(None)
        if arrival is not None and arrival.sent_id:
            context.set_trailing_metadata(((REQUEST_ID, arrival.sent_id),))
        self.end(rpc, OK, seconds)

    def end(self, rpc: str, code: Code, seconds: float) -> None:
        """Count a call that ended, `seconds` after its handler began."""
        arrived = ARRIVED.get(None)
        if arrived is not None:
            whole = time.monotonic() - arrived.time
            self._metrics.transport_wait_seconds.observe(max(0.0, whole - seconds))
            seconds = max(seconds, whole)
            arrived.was_cancelled = code is Code.CANCELLED
            if arrived.record is not None and self.recorder is not None:
                self.recorder.end(arrived, self._metrics.path_of(rpc), code, seconds)
        self._metrics.rpc_handled(rpc, code, seconds)
        self.in_flight -= 1
        if self._idle is not None and self.in_flight == 0:
            self._idle.set()
            self._idle = None

    async def fail(self, rpc: str, context: ServicerContext[bytes, bytes], began: float, error: BaseException) -> None:
        """Count a call that ended with `error`, and answer with its status.

        Raises:
            AbortError: of grpcio, once the status is sent; every handler lets it pass. After a cancellation nothing is
                raised here: the caller raises the cancellation again.

        """
        code, told = Code.CANCELLED, None
        try:
            if isinstance(error, SamplerdError):
                code, told = error.code, error
                self._count(error)
                self.log_refusal(rpc, error, context)
            elif isinstance(error, Exception):
                values = {"rpc": rpc, "request_id": current_request_id()}
                _LOG.error("a handler raised", exc_info=error, extra={"values": values})
                code, told = Code.INTERNAL, InternalError()
            else:
                # grpcio cancels a handler both when its client does and when its deadline passes.
                remaining = context.time_remaining()
                if remaining is not None and remaining < _CLOCKS_DIFFER_S:
                    code = Code.DEADLINE_EXCEEDED
        finally:
            self.end(rpc, code, time.monotonic() - began)
        # A caller that has its status finds the call counted.
        if told is not None:
            _forget_frames(error)
            await abort(context, told)

    async def wait_idle(self) -> None:
        """Wait until no call is in flight."""
        if self.in_flight == 0:
            return
        if self._idle is None:
            self._idle = asyncio.Event()
        await self._idle.wait()


class _Observed:
    """One call."""

    __slots__ = ("_began", "_context", "_observer", "_rpc")

    def __init__(self, observer: RpcObserver, rpc: str, context: ServicerContext[bytes, bytes], began: float) -> None:
        self._observer = observer
        self._rpc = rpc
        self._context = context
        self._began = began

    async def __aenter__(self) -> None:
        self._observer.begin(self._rpc)
        if self._observer.recorder is not None:
            self._observer.recorder.begin(self._context)

    async def __aexit__(self, _kind: object, error: BaseException | None, traceback: object) -> None:
        """Count the outcome; an error becomes the status of the call.

        Raises:
            AbortError: see `RpcObserver.fail`.

        """
        del traceback  # this frame may be kept for a while: see `_forget_frames`
        if error is None:
            self._observer.succeed(self._rpc, self._context, time.monotonic() - self._began)
        else:
            await self._observer.fail(self._rpc, self._context, self._began, error)


def _forget_frames(error: BaseException) -> None:
    """Let go of the frames of an error that has been told.

    grpcio keeps what `abort` raises with the call, in a circle that only the garbage collector opens; through its
    tracebacks it would keep the request and its rows for as long.
    """
    link: BaseException | None = error
    while link is not None and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


async def abort(context: ServicerContext[bytes, bytes], error: SamplerdError) -> None:
    """Answer a call with an error.

    Raises:
        AbortError: of grpcio, once the status is sent.

    """
    await context.abort(_STATUS_CODES[error.code], error.message, trailers_of(error, current_request_id()))
