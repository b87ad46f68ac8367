"""Inside Envoy: what `served.ServedByEnvoy` talks to. One Envoy serves all tests, each with its own application."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samplerd_server.app.app import App
from samplerd_server.config import EngineConfig, ServerConfig
from samplerd_server.config.environment import environment
from samplerd_server.envoy_child import Child
from samplerd_server.transport.envoy.asgi import AsgiApp
from tests.support.engine import HeldSampler, StubEngine
from tests.support.remote import offer


class HeldChild(Child):
    """Begins anew with the configuration that a test wants."""

    app: App
    sampler: HeldSampler

    def __init__(self) -> None:
        super().__init__(self._build)
        self.complaints: list[str] = []
        """What the event loop complained of: a future of pyvoy's that was cancelled, a callback that raised."""

    def _build(self, _config: EngineConfig) -> Any:
        self.sampler = HeldSampler()
        return StubEngine(self.sampler)

    async def _start(self) -> None:
        await super()._start()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._complain)
        assert self._app is not None
        self.app = self._app
        self._first = asyncio.all_tasks()
        offer(Path(environment()["SAMPLERD_CONFIG"]).with_name("probe"), self, loop, HeldSampler)

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def begin(self, config: ServerConfig) -> None:
        """Serve with a new application; the one before has been stopped."""
        loop = asyncio.get_running_loop()
        self._app = self.app = App(config, self._build_engine(config.engine), loop)
        await self.app.start()
        self._asgi = AsgiApp(
            self.app.handlers.generic,
            max_message_bytes=config.transport.max_message_bytes,
            refuse=self.app.observer.refuse,
            intake=self.app.intake,
            origins=config.envoy.cors_allow_origin,
        )

    def tasks(self) -> list[str]:
        """The tasks that run, but for those that were there before the first call, and the one that asks."""
        here = asyncio.current_task()
        names = [str(task.get_coro()) for task in asyncio.all_tasks() - self._first if task is not here]
        return [name for name in names if "Child._serve_control" not in name]  # the supervisor's

    def objects(self) -> int:
        """How many objects there are; those that the garbage collector has put away for good count as well."""
        gc.unfreeze()
        gc.collect()
        return len(gc.get_objects())


application = HeldChild()
