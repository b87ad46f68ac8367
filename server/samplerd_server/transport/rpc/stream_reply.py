"""The reply to one request of a stream, as the queue's ticket holds it.

It does the part of a future that tickets need, and tells its stream at once. A future would call the stream one turn of
the event loop later, by a callback of its own for each request; so the replies of a batch reach the writer together.
Event loop.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from samplerd_server.transport.rpc.stream_messages import Request

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

    from samplerd_server.transport.rpc.call_trace import StreamedRequest

__all__ = ["StreamReply", "Submit"]

_Request_contra = TypeVar("_Request_contra", contravariant=True)
_LOG = logging.getLogger("samplerd.transport")


class StreamReply(Generic[Request]):
    """What becomes of one request."""

    __slots__ = (
        *("_callbacks", "_error", "_is_cancelled", "_is_done", "_result", "_settle", "_task", "began", "request"),
        "trace",
    )

    def __init__(
        self,
        request: Request,
        began: float,
        settle: Callable[[StreamReply[Request]], None],
        trace: StreamedRequest | None = None,
    ) -> None:
        """Take the request, when it came, what is called with this once it is done, and its trace, if it is traced."""
        self.request = request
        self.began = began
        self.trace = trace
        self._settle = settle
        self._callbacks: list[Callable[[Any], object]] = []
        self._is_done = False
        self._is_cancelled = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._task: Future[Any] | None = None

    def done(self) -> bool:
        """Whether it has a result or an error, or is cancelled."""
        return self._is_done

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._is_cancelled

    def result(self) -> Any:
        """Give the result, or raise the error, once it is done."""
        if self._error is not None:
            raise self._error
        return self._result

    def exception(self) -> BaseException | None:
        """Give the error once it is done; None = it has a result."""
        return self._error

    def set_result(self, result: Any, /) -> None:
        """Resolve it."""
        self._result = result
        self._finish()

    def set_exception(self, exception: BaseException, /) -> None:
        """Resolve it with an error."""
        self._error = exception
        self._finish()

    def cancel(self) -> None:
        """Say that nobody waits for it any more, unless it is done."""
        if self._is_done:
            return
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()
        self._finish()

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call something with it once it is done."""
        self._callbacks.append(callback)

    def follow(self, task: Future[Any]) -> None:
        """Take over what becomes of a task."""
        self._task = task
        task.add_done_callback(self._take_over)

    def _take_over(self, task: Future[Any]) -> None:
        if task.cancelled():
            self.cancel()
            return
        error = task.exception()
        if self._is_done:
            return
        if error is None:
            self.set_result(task.result())
        else:
            self.set_exception(error)

    def _finish(self) -> None:
        """Tell whoever waits. An error of theirs is a bug, which must not reach the others of a batch."""
        self._is_done = True
        for callback in (self._settle, *self._callbacks):
            try:
                callback(self)
            except Exception:  # noqa: BLE001  # a bug of one reply is not one of the batch
                _LOG.exception("a reply of a stream could not be passed on")


class Submit(Protocol[_Request_contra]):
    """Submits a request of a stream."""

    def __call__(
        self, reply: StreamReply[Any], request: _Request_contra, arrival: float, deadline: float, connection: str, /
    ) -> Future[Any] | None:
        """Queue a request, whose reply is resolved; or give the task that answers it.

        Raises:
            SamplerdError: it was not admitted.

        """
        ...
