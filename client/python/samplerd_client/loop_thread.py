"""The event loop of the synchronous clients, in a thread of its own.

Rule 1: all clients of a process share one loop and thread, since gRPC's asyncio wants one loop per process; the thread
starts with the first open client and ends with the last. Rule 2: the loop is run by that thread alone, so a caller's
thread may run another loop, as a notebook's does. Rule 3: what would wait for ever, on the loop's own thread or after a
fork, raises.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from samplerd_client.errors import ConnectionLostError
from samplerd_client.process_fork import check_fork

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

__all__ = ["Runner"]

_T = TypeVar("_T")


class _LoopThread:
    """The one loop and its thread, counted by the clients that use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def acquire(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="samplerd-client", daemon=True)
                self._thread.start()
            self._users += 1
            return self._loop

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._loop is None or self._thread is None:
                return
            asyncio.run_coroutine_threadsafe(self._loop.shutdown_asyncgens(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None


_LOOP = _LoopThread()


class Runner:
    """Runs coroutines of one client on the shared loop, from any thread but the loop's."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_started(self) -> bool:
        """Whether there is a loop to run on."""
        return self._loop is not None

    def start(self) -> None:
        """Use the shared loop; the first user starts it."""
        check_fork()
        if self._loop is None:
            self._loop = _LOOP.acquire()

    def stop(self) -> None:
        """Stop using the shared loop; the last user ends it."""
        if self._loop is not None:
            self._loop = None
            _LOOP.release()

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start a coroutine, and return a future of its outcome."""
        if self._loop is None:
            work.close()
            raise ConnectionLostError("the client is not connected; use it as `with SyncSamplerClient(...)`")
        try:
            check_fork()
        except ConnectionLostError:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine, and return its outcome."""
        if self._loop is not None and asyncio._get_running_loop() is self._loop:  # noqa: SLF001  # None outside a loop
            work.close()
            raise RuntimeError("a synchronous client cannot wait on the thread that carries its calls")
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # after Ctrl-C the call must not live on
            raise
