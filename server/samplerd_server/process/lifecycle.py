"""The life of a server as others see it: what ends it, what it logs of itself, and what it tells its supervisor.

A server of its own is ended by SIGTERM or SIGINT. A worker is ended by its supervisor as well: by the end of the socket
that the two share, so that a supervisor that was killed leaves nobody behind. Over that socket, one line a message::

    to the supervisor  {"warm": {}}  {"serving": {...}}  {"failed": {"cause": "..."}}  {"stopped": {"is_clean": ...}}
    to a worker         go

A worker that is warm waits for ``go``, so that all begin to listen at once: whoever listens first would get all the
connections of the moment.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from samplerd_server.process.log import event

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from samplerd_server.config import ServerConfig, WorkerConfig

__all__ = ["Lifecycle", "tell"]

_LOG = logging.getLogger("samplerd")
_ONE_SIGNAL_S = 0.25
"""Whoever tells a process and its group, as ``timeout`` does, means one signal."""


def tell(worker: WorkerConfig, message: str, **values: object) -> None:
    """Tell the supervisor something. If it has died there is nobody to tell."""
    with suppress(OSError):
        os.write(worker.control, json.dumps({message: values}).encode() + b"\n")


class Lifecycle:
    """What ends this server, and how it says where it stands. On the event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self._worker = config.worker
        self._grace_s = config.transport.drain_grace_s
        self._may_listen = asyncio.Event()
        self._ended_at = 0.0
        self._is_orphan = False
        self.stop = asyncio.Event()
        """Set once the server shall drain."""
        self.hurry = asyncio.Event()
        """Set by a second signal."""

    def watch(self) -> None:
        """Begin to listen to signals and to the supervisor."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        if self._worker is not None:
            os.set_inheritable(self._worker.control, False)  # noqa: FBT003  # its only parameter
            os.set_blocking(self._worker.control, False)  # likewise
            loop.add_reader(self._worker.control, self._hear, self._worker.control)

    def _end(self) -> None:
        now = time.monotonic()
        if not self.stop.is_set():
            self._ended_at = now
            self.stop.set()
        elif now - self._ended_at > _ONE_SIGNAL_S:
            self.hurry.set()

    def _hear(self, control: int) -> None:
        try:
            said = os.read(control, 64)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if said:
            self._may_listen.set()
        else:
            asyncio.get_running_loop().remove_reader(control)
            self._is_orphan = True
            self.stop.set()

    async def unless_stopped(self, work: Awaitable[Any]) -> bool:
        """Wait for some work or for the end, whichever comes first; returns whether the work is done."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self.stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})  # it may have something to put away
            return False
        await working
        return True

    async def may_listen(self) -> bool:
        """Say that all is warm and wait for the supervisor's go; returns False if the end came instead."""
        if self._worker is None:
            return not self.stop.is_set()
        tell(self._worker, "warm")
        return await self.unless_stopped(self._may_listen.wait())

    def serving(self, **values: object) -> None:
        """Say that requests are answered, and where."""
        self._say("serving", values)
        if self._worker is not None:
            tell(self._worker, "serving", **values)

    def draining(self, **values: object) -> None:
        """Say that what is new is refused."""
        self._say("draining", {"grace": f"{self._grace_s:g}s", **values})

    def stopped(self, *, is_clean: bool) -> None:
        """Say that it is over, and whether all that was in flight finished within the grace."""
        self._say("stopped", {"finished_in_grace": is_clean}, logging.INFO if is_clean else logging.WARNING)
        if self._worker is not None:
            tell(self._worker, "stopped", is_clean=is_clean)
            if self._is_orphan and self._worker.folder:
                # It may hold much memory, and nobody else will. What others still have open stays theirs.
                shutil.rmtree(self._worker.folder, ignore_errors=True)

    def _say(self, message: str, values: dict[str, object], level: int = logging.INFO) -> None:
        # Whoever waits for "serving" in a log waits for the supervisor's, which speaks for all.
        if self._worker is None:
            event(_LOG, level, message, **values)
        else:
            event(_LOG, level, f"worker {message}", pid=os.getpid(), **values)
