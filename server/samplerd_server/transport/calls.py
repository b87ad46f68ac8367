"""What every call goes through: it is counted, timed, and its errors become gRPC statuses, in one place.

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

from samplerd_server.errors import Code, InternalError, SamplerdError
from samplerd_server.transport.status import trailers_of

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from samplerd_server.metrics import Metrics

__all__ = ["Calls"]

_LOG = logging.getLogger("samplerd.transport")
_CLOCKS_DIFFER_S = 1e-3
"""grpcio times deadlines by another clock than the one it tells the remaining time by."""
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Calls:
    """The calls in flight."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._idle = asyncio.Event()
        self._idle.set()
        self.in_flight = 0
        """Calls that have begun and not ended."""
        self.begun = 0
        """Calls that ever began."""

    def handle(self, rpc: str, context: ServicerContext[bytes, bytes], began: float) -> _Call:
        """Give what surrounds the body of a handler: ``async with calls.handle(...):``."""
        return _Call(self, rpc, context, began)

    def begin(self, rpc: str) -> None:
        """Count a call that begins."""
        self._metrics.rpc_started(rpc)
        self.in_flight += 1
        self.begun += 1
        self._idle.clear()

    def end(self, rpc: str, code: Code, seconds: float) -> None:
        """Count a call that ended."""
        self._metrics.rpc_handled(rpc, code, seconds)
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until no call is in flight."""
        await self._idle.wait()


class _Call:
    """One call. A class of its own rather than a generator: it is on the path of every request."""

    __slots__ = ("_began", "_calls", "_context", "_rpc")

    def __init__(self, calls: Calls, rpc: str, context: ServicerContext[bytes, bytes], began: float) -> None:
        self._calls = calls
        self._rpc = rpc
        self._context = context
        self._began = began

    async def __aenter__(self) -> None:
        self._calls.begin(self._rpc)

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Count the outcome; an error becomes the status of the call.

        Raises:
            AbortError: grpcio's own, once the status is sent; every handler lets it pass.

        """
        code = Code.OK
        try:
            if isinstance(error, SamplerdError):
                code = error.code
                await _abort(self._context, error)
            elif isinstance(error, Exception):
                _LOG.error("a handler raised", exc_info=error, extra={"values": {"rpc": self._rpc}})
                code = Code.INTERNAL
                await _abort(self._context, InternalError())
            elif error is not None:
                # grpcio cancels a handler both when its client does and when its deadline passes.
                remaining = self._context.time_remaining()
                is_late = remaining is not None and remaining < _CLOCKS_DIFFER_S
                code = Code.DEADLINE_EXCEEDED if is_late else Code.CANCELLED
        finally:
            self._calls.end(self._rpc, code, time.monotonic() - self._began)


async def _abort(context: ServicerContext[bytes, bytes], error: SamplerdError) -> None:
    await context.abort(_STATUS_CODES[error.code], error.message, trailers_of(error))
