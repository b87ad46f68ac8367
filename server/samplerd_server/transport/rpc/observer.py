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

from samplerd_server.core.errors import OK, Code, InternalError, SamplerdError
from samplerd_server.transport.codec.status import trailers_of

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from samplerd_server.metrics.metrics import Metrics

__all__ = ["RpcObserver"]

_LOG = logging.getLogger("samplerd.transport")
_CLOCKS_DIFFER_S = 1e-3
"""grpcio ends calls by another clock than the one by which it tells the remaining time: they differ by less."""
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RpcObserver:
    """Counts calls, those in flight too, and ends the failed ones with their status."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._idle: asyncio.Event | None = None
        """Set when no call is in flight. It exists only while somebody waits for it: it costs time in each call."""
        self.in_flight = 0
        """Calls that have begun and not ended."""
        self.begun = 0
        """Calls that have begun since the start."""

    def handle(self, rpc: str, context: ServicerContext[bytes, bytes], began: float) -> _Observed:
        """Surround the body of a handler: ``async with observer.handle(...):``.

        Unary calls, which are the most frequent, use `begin`, `fail` and `end` instead: two coroutines fewer.
        """
        return _Observed(self, rpc, context, began)

    def begin(self, rpc: str) -> None:
        """Count a call that begins."""
        self._metrics.rpc_started(rpc)
        self.in_flight += 1
        self.begun += 1

    def end(self, rpc: str, code: Code, seconds: float) -> None:
        """Count a call that ended."""
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
        code = Code.CANCELLED
        try:
            if isinstance(error, SamplerdError):
                code = error.code
                await _abort(context, error)
            elif isinstance(error, Exception):
                _LOG.error("a handler raised", exc_info=error, extra={"values": {"rpc": rpc}})
                code = Code.INTERNAL
                await _abort(context, InternalError())
            else:
                # grpcio cancels a handler both when its client does and when its deadline passes.
                remaining = context.time_remaining()
                if remaining is not None and remaining < _CLOCKS_DIFFER_S:
                    code = Code.DEADLINE_EXCEEDED
        finally:
            self.end(rpc, code, time.monotonic() - began)

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

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Count the outcome; an error becomes the status of the call.

        Raises:
            AbortError: see `RpcObserver.fail`.

        """
        if error is None:
            self._observer.end(self._rpc, OK, time.monotonic() - self._began)
        else:
            await self._observer.fail(self._rpc, self._context, self._began, error)


async def _abort(context: ServicerContext[bytes, bytes], error: SamplerdError) -> None:
    await context.abort(_STATUS_CODES[error.code], error.message, trailers_of(error))
