"""A task whose steps run in the very calls that end what it waits for, and the first in the call that makes it.

A task of asyncio waits for a turn of the event loop before each of its steps. The coroutines of grpcio that handle a
call wait for its message, for its last batch and for the client to close, and grpcio tells of the end of each on the
event loop already: those turns are for nothing.

Rule 1: a batch is run to its end even if its task is cancelled meanwhile, so that grpcio frees what it allocated (see
`batches`). Whoever cancels knows that the call is over: grpcio's core then ends every batch. Rule 2: what runs here has
no `asyncio.current_task`. Rule 3: a task without a context of its own sets no context variable. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from samplerd_server.transport.grpcio.batches import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextvars import Context

__all__ = ["EagerTask"]


class EagerTask:
    """Runs one coroutine; what grpcio asks of a task."""

    __slots__ = ("_callbacks", "_context", "_coroutine", "_error", "_is_cancelled", "_is_done", "_loop", "_waits_for")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context | None) -> None:
        """Take the loop of this thread, and the context to run in; None = that of whatever wakes the task."""
        self._loop = loop
        self._context = context
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._waits_for: Any = None
        self._callbacks: list[Callable[[Any], None]] = []
        self._is_done = False
        self._is_cancelled = False
        """Whether CancelledError is to be raised in the next step."""
        self._error: BaseException | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Self:
        """Run a coroutine until it waits."""
        self._coroutine = coroutine
        self.wake()
        return self

    def wake(self) -> None:
        """Go on: what is waited for has ended."""
        if self._context is None:
            self._step()
        else:
            self._context.run(self._step)

    def _step(self, _ended: object = None) -> None:
        coroutine = self._coroutine
        assert coroutine is not None, "a task that has ended goes on. This is a bug."
        self._waits_for = None
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                waits_for = coroutine.throw(asyncio.CancelledError())
            else:
                waits_for = coroutine.send(None)
        except StopIteration:
            self._end(None)
        except (KeyboardInterrupt, SystemExit) as error:
            self._end(error)
            raise
        except BaseException as error:  # noqa: BLE001  # whoever waits raises it
            self._end(error)
        else:
            self._wait(waits_for)

    def _wait(self, waits_for: Any) -> None:
        self._waits_for = waits_for
        kind = type(waits_for)
        if kind is Waiter:  # it wakes its task itself
            pass
        elif kind is EagerTask:
            waits_for.add_done_callback(lambda _: self.wake())
        elif waits_for is None:  # as of asyncio.sleep(0)
            self._loop.call_soon(self._step, context=self._context)
        else:
            waits_for._asyncio_future_blocking = False  # noqa: SLF001  # what a task does with what it waits for
            waits_for.add_done_callback(self._step, context=self._context)
        if self._is_cancelled:
            self._cancel_what_is_waited_for()

    def _end(self, error: BaseException | None) -> None:
        self._coroutine, self._is_done, self._error = None, True, error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception as raised:  # noqa: BLE001  # the others are called all the same, as of a task of asyncio
                told = {"message": "a callback of a call's task failed", "exception": raised}
                self._loop.call_exception_handler(told)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call something when the coroutine has ended."""
        if self._is_done:
            self._loop.call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def done(self) -> bool:
        """Whether the coroutine has ended."""
        return self._is_done

    def cancel(self) -> None:
        """Cancel the future that is waited for, or raise CancelledError in the next step: after the end of a batch."""
        if not self._is_done:
            self._is_cancelled = True
            self._cancel_what_is_waited_for()

    def _cancel_what_is_waited_for(self) -> None:
        waits_for = self._waits_for
        if waits_for is not None and waits_for.cancel():
            self._is_cancelled = False

    def __await__(self) -> Iterator[Any]:
        """Wait for the end of the coroutine, of another such task.

        Raises:
            BaseException: whatever the coroutine raised.

        """
        if not self._is_done:
            yield self
        if self._error is not None:
            raise self._error
