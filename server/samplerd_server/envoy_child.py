"""The ASGI application that Envoy's embedded Python imports, and its lifecycle.

The supervisor (`transport/envoy/supervisor.py`) names the handoff file in ``SAMPLERD_CONFIG`` and holds one connection
to a control socket beside that file: it writes ``drain`` and gets an answer once everything in flight is finished. It
also holds the other end of standard input: when that is closed, the supervisor has died, and this process drains by
itself, removes the folder of that file and stops Envoy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplerd_server.app.app import App
from samplerd_server.app.core import facts_of
from samplerd_server.app.gauges import worker_label
from samplerd_server.app.serve_door import connect
from samplerd_server.config import DOOR
from samplerd_server.config.environment import environment
from samplerd_server.config.handoff import read_handoff
from samplerd_server.core.named_thread import helpers
from samplerd_server.process.log import event, set_up
from samplerd_server.process.memory import tune_memory
from samplerd_server.transport.envoy.active_calls import ActiveCalls
from samplerd_server.transport.envoy.admin import Admin
from samplerd_server.transport.envoy.asgi import AsgiApp
from samplerd_server.transport.envoy.bootstrap import remove_sockets
from samplerd_server.transport.envoy.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from samplerd_server.config import EngineConfig, ServerConfig
    from samplerd_server.core.engine_facts import EngineFacts
    from samplerd_server.engine.engine import Engine
    from samplerd_server.transport.doors.link import Link

__all__ = ["Child", "application"]

_STDIN = 0
_FLUSH_S = 0.5
"""Time for sending the last answers."""
_SCRAPE_S = 0.5
"""Far below any scraper's timeout; Envoy answers in a millisecond."""
_LOG = logging.getLogger("samplerd")


class Child:
    """The ASGI application: it starts the server with the lifespan, then answers calls."""

    def __init__(self, build_engine: Callable[[EngineConfig], Engine] | None = None) -> None:
        self._build_engine = build_engine
        self._app: App | None = None
        self._asgi: AsgiApp | None = None
        self._control: asyncio.Server | None = None
        self._grace_s = 0.0
        self._orphaned: asyncio.Task[None] | None = None
        """Ends the process once its supervisor has died."""

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one call, or run the lifespan: start, wait, stop."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif self._asgi is not None:
            await self._asgi(scope, receive, send)

    async def _run_lifespan(
        self,
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        await receive()
        try:
            await self._start()
        except Exception as error:  # noqa: BLE001  # any error must reach Envoy
            # The supervisor reads this file and reports the error in one line; Envoy alone would print a page.
            Path(environment()["SAMPLERD_CONFIG"]).with_suffix(".error").write_text(str(error), encoding="utf-8")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._asgi is not None:
            self._asgi.close()
        if self._app is not None:
            await self._app.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        path = Path(environment()["SAMPLERD_CONFIG"])
        config = read_handoff(path)
        set_up(config.log, config.worker)
        self._grace_s = config.transport.drain_grace_s
        loop = asyncio.get_running_loop()
        loop.add_reader(_STDIN, self._notice_orphaning, loop, config, path.parent)
        loop.set_default_executor(helpers())
        engine, facts = await self._make_engine(config, loop)
        self._app = App(config, engine, loop)
        tune_memory()
        await self._app.start()
        turns = Turns(loop)
        self._asgi = AsgiApp(
            self._app.handlers.generic,
            max_message_bytes=config.transport.max_message_bytes,
            refuse=self._app.observer.refuse,
            intake=self._app.intake,
            turns=turns,
            origins=config.envoy.cors_allow_origin,
        )
        asgi = self._asgi
        # A scrape must not wait for long.
        calls = ActiveCalls(
            Admin(path.parent, config.envoy.admin, _SCRAPE_S), running=lambda: asgi.running - turns.waiting
        )
        self._app.metrics.transport_waiting_calls.watch(calls.waiting)
        self._app.metrics.worker_connections.watch(calls.connections, worker_label(config))
        self._control = await asyncio.start_unix_server(self._serve_control, str(path.with_suffix(".control")))
        event(
            _LOG,
            logging.INFO,
            "ready",
            device=facts.device,
            kernel=facts.kernel,
            threads=facts.threads,
            metrics=self._app.exporting.address,
            warm_up=f"{facts.warm_up_s:.2f}s",
        )

    async def _make_engine(
        self, config: ServerConfig, loop: asyncio.AbstractEventLoop
    ) -> tuple[Engine | Link, EngineFacts]:
        """Warm an engine up, or connect to the one that several doors share."""
        if config.worker is not None and config.worker.role == DOOR:
            link = await connect(config)
            return link, link.facts
        build = self._build_engine
        if build is None:
            # Imports torch, which a door does without.
            from samplerd_server.engine.engine import Engine  # noqa: PLC0415

            build = Engine
        engine = build(config.engine)
        warm_up_s = await loop.run_in_executor(None, engine.warm_up, config.spare_kernels)
        return engine, facts_of(engine, warm_up_s)

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the supervisor: send the metrics address, which also is a sign of life, then answer its commands."""
        assert self._app is not None, "the control socket opened before the application. This is a bug."
        writer.write(f"{self._app.exporting.address}\n".encode())
        while line := await reader.readline():
            if line == b"leave\n":
                self._app.handlers.leave()
                writer.write(b"left\n")
            elif line == b"drain\n":
                writer.write(b"clean\n" if await self._drain() else b"late\n")
                await writer.drain()
        writer.close()

    def _notice_orphaning(self, loop: asyncio.AbstractEventLoop, config: ServerConfig, folder: Path) -> None:
        if not os.read(_STDIN, 1):
            loop.remove_reader(_STDIN)
            self._orphaned = loop.create_task(self._end_orphaned(config, folder))

    async def _end_orphaned(self, config: ServerConfig, folder: Path) -> None:
        """Do what the supervisor, which has died, would: Envoy itself would keep running and hold its addresses."""
        loop = asyncio.get_running_loop()
        admin = Admin(folder, config.envoy.admin)
        try:
            if self._asgi is not None:
                with suppress(OSError):
                    await loop.run_in_executor(None, admin.close_listeners)
            # Before the drain: meanwhile another server may have made sockets of its own under the same names.
            remove_sockets(config.transport.listen)
            if self._asgi is not None and await self._drain():
                with suppress(OSError):
                    await admin.wait_sent(loop.time() + _FLUSH_S)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.kill(os.getpid(), signal.SIGTERM)

    async def _drain(self) -> bool:
        """Finish what is in flight and send its replies; returns whether all were sent within the drain grace."""
        assert self._app is not None, "a drain before the start. This is a bug."
        assert self._asgi is not None, "a drain before the start. This is a bug."
        give_up = time.monotonic() + self._grace_s
        if not await self._app.drain():
            return False
        sent = asyncio.ensure_future(self._asgi.replies.wait_sent())
        done, _ = await asyncio.wait({sent}, timeout=max(0, give_up - time.monotonic()))
        sent.cancel()
        return bool(done)


application = Child()
