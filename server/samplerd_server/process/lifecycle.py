"""The lifecycle of a server: what ends it, what it logs of its state, and what it tells its supervisor.

SIGTERM or SIGINT ends a server. A worker ends as well when the socket that it shares with its supervisor is closed, so
that a supervisor that was killed leaves no worker behind. Over that socket, one line is one message::

    to the supervisor  {"warm": {}}  {"serving": {...}}  {"failed": {"cause": "..."}}  {"stopped": {"is_clean": ...}}
                        {"alive": {}}
    to a worker         go  drain  ping

A worker that is warm waits for ``go``, so that all workers begin to listen at once: the first one to listen would get
all connections that clients open at that moment. A ``ping`` is answered ``alive`` by the event loop,
so that a worker that hangs, whatever in it hangs, is noticed. ``drain`` says that all workers end, so each waits the
drain delay; a worker that is signalled alone does not, since a client that connects again reaches the others.
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
from typing import TYPE_CHECKING, Any, NoReturn

from samplerd_server.process.log import event
from samplerd_server.process.service_manager import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from samplerd_server.config import ServerConfig, WorkerConfig

__all__ = ["Lifecycle", "leave", "tell"]

_LOG = logging.getLogger("samplerd")
_ONE_SIGNAL_S = 0.25
"""Signals this close together count as one: ``timeout`` signals a process and its group."""


def tell(worker: WorkerConfig, message: str, **values: object) -> None:
    """Send the supervisor a message; one that has died is ignored."""
    with suppress(OSError):
        os.write(worker.control, json.dumps({message: values}).encode() + b"\n")


def leave(code: int = 0) -> NoReturn:
    """Exit the process at once: a thread that is still in native code would crash the interpreter's normal exit."""
    logging.shutdown()
    os._exit(code)


class Lifecycle:
    """What ends this server, and how it reports its state. On the event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._worker = config.worker
        self._grace_s = config.transport.drain_grace_s
        self._may_listen = asyncio.Event()
        self._delay_s = config.transport.drain_delay_s if config.worker is None else 0.0
        self._ended_at = 0.0
        self.service_manager = ServiceManager() if config.worker else ServiceManager.of_environment()
        """What started this process; nothing is told to it by a worker, which the supervisor started."""
        self.is_orphan = False
        """Whether the supervisor has died, which ends the server too."""
        self.stop = asyncio.Event()
        """Set once the server must drain."""
        self.hurry = asyncio.Event()
        """Set by a second signal: the server must end at once."""

    def watch(self) -> None:
        """Begin to handle signals and messages of the supervisor."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        if self._worker is not None:
            os.set_inheritable(self._worker.control, False)  # noqa: FBT003  # its only parameter
            os.set_blocking(self._worker.control, False)
            loop.add_reader(self._worker.control, self._on_message, self._worker.control)

    def _end(self) -> None:
        now = time.monotonic()
        if not self.stop.is_set():
            self._ended_at = now
            self.stop.set()
        elif now - self._ended_at > _ONE_SIGNAL_S:
            self.hurry.set()

    def _on_message(self, control: int) -> None:
        try:
            message = os.read(control, 64)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        for line in message.split():
            self._obey(line)
        if not message:
            asyncio.get_running_loop().remove_reader(control)
            self.is_orphan = True
            self.stop.set()

    def _obey(self, message: bytes) -> None:
        assert self._worker is not None, "a message to a server without a supervisor. This is a bug."
        match message:
            case b"go":
                self._may_listen.set()
            case b"drain":
                self._delay_s = self._config.transport.drain_delay_s
                self._end()
            case b"ping":
                tell(self._worker, "alive")

    async def unless_stopped(self, work: Awaitable[Any]) -> bool:
        """Wait until some work is done or the server should drain; returns whether the work is done."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self.stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})  # it may have something to clean up
            return False
        await working
        return True

    async def delay(self, ended: Awaitable[Any] | None = None) -> None:
        """Wait the drain delay, in which requests are still answered; a second signal ends it.

        Args:
            ended: ends it too; None = nothing else does.

        """
        if self._delay_s:
            waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(self.hurry.wait())}
            if ended is not None:
                waits.add(asyncio.ensure_future(ended))
            await asyncio.wait(waits, timeout=self._delay_s, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def may_listen(self) -> bool:
        """Report that the server is warm, and wait for the supervisor's go; returns False if it must end instead."""
        if self._worker is None:
            return not self.stop.is_set()
        tell(self._worker, "warm")
        return await self.unless_stopped(self._may_listen.wait())

    def starting(self, **values: object) -> None:
        """Report that health is answered already, and where; no request is."""
        self.service_manager.status("starting")
        self._report("starting", values)

    def serving(self, **values: object) -> None:
        """Report that requests are answered, and where."""
        self._report("serving", values)
        self.service_manager.ready(f"serving on {values.get('listen', '')}")
        if self._worker is not None:
            tell(self._worker, "serving", **values)

    def draining(self, **values: object) -> None:
        """Report that health is NOT_SERVING, and that new requests are refused once the delay is over."""
        delay = {"delay": f"{self._delay_s:g}s"} if self._delay_s else {}
        self.service_manager.stopping("draining")
        self._report("draining", {**delay, "grace": f"{self._grace_s:g}s", **values})

    def stopped(self, *, is_clean: bool) -> None:
        """Report the end, and whether every request in flight finished within the grace."""
        self._report("stopped", {"finished_in_grace": is_clean}, logging.INFO if is_clean else logging.WARNING)
        if self._worker is not None:
            tell(self._worker, "stopped", is_clean=is_clean)
            if self.is_orphan and self._worker.folder:
                # It may hold much memory, and nobody else is left to remove it. Files that are open stay readable.
                shutil.rmtree(self._worker.folder, ignore_errors=True)

    def _report(self, message: str, values: dict[str, object], level: int = logging.INFO) -> None:
        # A log reader that waits for "serving" means the supervisor's line, which is for all workers.
        if self._worker is None:
            event(_LOG, level, message, **values)
        else:
            event(_LOG, level, f"{self._worker.role} {message}", pid=os.getpid(), **values)
