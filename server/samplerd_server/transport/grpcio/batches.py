"""Batches of operations of a call, each run to its end, so that grpcio frees what it allocated for it.

grpcio's `execute_batch` (`callback_common.pyx.pxi`) allocates 80 bytes (`sizeof(grpc_op)`) for each operation, and
buffers for messages, metadata and details. It frees them in the step after the one that waits for the batch, which is
never reached where that fails or its task is cancelled: 80 to some 300 bytes of each call that a client cancels are
lost. Here nothing ends the coroutine early. What fails is told to whoever waits once it has ended, and a task that is
cancelled leaves it to end by itself, as grpcio's core ends every batch of a call that is over.

Rule 1: what is replaced and called here are names of grpcio's own, which a later version may change: this module then
cannot be imported. Rule 2: a batch needs no task of its own, and no more turns of the event loop. Runs on that.
"""

from __future__ import annotations

import logging
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self

from grpc._cython import cygrpc

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

__all__ = ["Operation", "begin", "execute_batch", "install"]

_LOG = logging.getLogger("samplerd.transport")
begin: Callable[..., Coroutine[Any, Any, None]] = cygrpc.execute_batch
"""grpcio's own function, given a call, operations, and the operation that waits for them."""
_ReceiveClose = cygrpc.ReceiveCloseOnServerOperation
_ONCE = (None,)


class Operation:
    """An operation of a call, one at a time: the event loop and the future that grpcio's coroutines ask for."""

    __slots__ = ("_coroutine", "_end", "_error", "_loop", "_thread")

    def __init__(self, loop: asyncio.AbstractEventLoop, end: Callable[[Any, BaseException | None], None]) -> None:
        """Take the loop of this thread, and what is told what the operation returned, and how it failed."""
        self._loop = loop
        self._thread = get_ident()
        self._end = end
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._error: BaseException | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine of grpcio's that waits for this."""
        self._coroutine, self._error = coroutine, None
        self._step()

    def _step(self) -> None:
        coroutine = self._coroutine
        assert coroutine is not None, "grpcio ended an operation twice. This is a bug."
        try:
            coroutine.send(None)
        except StopIteration as done:
            value, error = done.value, self._error
        except BaseException as raised:  # noqa: BLE001  # whoever waits raises it
            value, error = None, raised
        else:
            return
        self._coroutine = None
        try:
            self._end(value, error)
        except Exception:  # noqa: BLE001  # grpcio, which calls this, would lose it
            _LOG.exception("an operation of a call could not be ended")

    # What grpcio asks of an event loop.

    def create_future(self) -> Self:
        """Give what is told of the operation's end."""
        return self

    def call_soon_threadsafe(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call something now: grpcio does this on the event loop, unless others of the process use it too."""
        if get_ident() == self._thread:
            callback(*arguments)
        else:
            self._loop.call_soon_threadsafe(callback, *arguments)

    # What it asks of a future.

    def cancelled(self) -> bool:
        """Whether nobody waits, which never is so."""
        return False

    def set_result(self, _result: object) -> None:
        """Take note that the operation has ended."""
        self._step()

    def set_exception(self, error: BaseException) -> None:
        """Take note that the operation has failed; grpcio's coroutine goes on all the same, and frees what it holds."""
        self._error = error
        self._step()

    def __await__(self) -> Iterator[None]:
        """Have the coroutine wait once: it goes on when the operation has ended."""
        return iter(_ONCE)


def execute_batch(
    call: object, operations: tuple[object, ...], loop: asyncio.AbstractEventLoop | Operation
) -> Awaitable[None]:
    """Begin a batch, as grpcio's function of this name does; returns what waits for its end.

    Args:
        call: grpcio's call.
        operations: of grpcio, which are run together.
        loop: the running event loop, or an operation, which runs what is returned to its end by itself.

    Raises:
        ExecuteBatchError: of grpcio, where the result is awaited: the batch failed, as when the client has gone.

    """
    if type(loop) is Operation or type(operations[0]) is _ReceiveClose:  # the latter cannot fail
        return begin(call, operations, loop)
    waiter: asyncio.Future[None] = loop.create_future()  # type: ignore[assignment]  # an event loop's
    operation = Operation(loop, partial(_settle, waiter))  # type: ignore[arg-type]  # an event loop
    operation.run(begin(call, operations, operation))
    return waiter


def _settle(waiter: asyncio.Future[None], _value: object, error: BaseException | None) -> None:
    """Tell a task how its batch ended, unless it was cancelled meanwhile."""
    if waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)


def install() -> None:
    """Have grpcio run every batch of this process in this way."""
    cygrpc.execute_batch = execute_batch
