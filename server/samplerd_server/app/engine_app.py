"""The engine of a server with doors: the queue, the batcher, the device and uploads, and the desk that doors come to.

::

    start   engine (warm) -> device thread -> desk
    stop    (doors first, by their supervisor) -> requests in flight -> desk -> device thread -> counts
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.app.app import RPCS
from samplerd_server.app.core import LocalCore, facts_of
from samplerd_server.app.decoding import make_decoder
from samplerd_server.app.exporting import Exporting
from samplerd_server.app.gauges import watch_process, watch_store
from samplerd_server.app.stores import make_cuda_regions, make_regions, make_store
from samplerd_server.core.errors import UnavailableError
from samplerd_server.distributions.by_file import FileStore
from samplerd_server.distributions.expiry_timer import ExpiryTimer
from samplerd_server.engine.engine import Engine
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.process.descriptors import DescriptorWatch
from samplerd_server.process.lifecycle import leave, tell
from samplerd_server.process.log import close_background
from samplerd_server.process.memory import tune_memory
from samplerd_server.process.probes import Probes
from samplerd_server.process.tracing import make_tracing
from samplerd_server.process.watchdog import STALLED, Watchdog
from samplerd_server.transport.codec.compiled import compiled_varints
from samplerd_server.transport.doors.desk import Desk
from samplerd_server.transport.rpc.access import refusals_of
from samplerd_server.transport.rpc.submitter import Submitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.config import ServerConfig
    from samplerd_server.core.engine_facts import EngineFacts
    from samplerd_server.process.lifecycle import Lifecycle

__all__ = ["EngineApp", "serve"]

_FLUSH_S = 0.2
"""Seconds in which the last messages reach the doors before a stalled process ends."""
_DOORS_S = 15.0
"""Seconds beyond the drain grace in which the doors of a supervisor that has died may end."""
_POLL_S = 0.02


class EngineApp:
    """The engine, built and connected."""

    def __init__(
        self, config: ServerConfig, engine: Engine, facts: EngineFacts, loop: asyncio.AbstractEventLoop
    ) -> None:
        assert config.worker is not None, "an engine without a supervisor. This is a bug."
        self._config = config
        self._worker = config.worker
        self._loop = loop
        refusals = refusals_of(config.security)
        self.metrics = Metrics(rpc.labels._replace(refusals=refusals) for rpc in RPCS)
        self._tracing = make_tracing(config, __version__, facts.device)
        self.core = core = LocalCore(config, engine, loop, metrics=self.metrics, tracing=self._tracing)
        compiled_varints()  # replies are encoded with it
        regions, cuda_regions = make_regions(config, self.metrics), make_cuda_regions(config, self.metrics, None)
        decoder = make_decoder(config, facts, regions=regions, cuda_regions=cuda_regions)
        self.store = make_store(
            config,
            builder=engine.cdf_index_builder,
            decoder=decoder,
            metrics=self.metrics,
            note=engine.note_rows,
        )
        uploads = core.make_uploads(self.store, decoder, Submitter(core.entry, loop))
        self.desk = Desk(
            config.worker.engine_socket,
            entry=core.entry,
            uploads=uploads,
            store=self.store if isinstance(self.store, FileStore) else None,
            facts=facts,
            drawn=self.metrics.drawn,
            loop=loop,
        )
        self._watchdog = Watchdog(
            config.engine.stall_limit_s,
            event_loop=lambda: core.loop_progress,
            device=lambda: core.device_progress,
            on_device_stall=lambda *own: loop.call_soon_threadsafe(self._fail_all, *own),
            leave=self._leave_stalled,
        )
        self._expiry_timer = ExpiryTimer(self.store, loop)
        self._descriptors = DescriptorWatch(loop)
        self._exporting = Exporting(config, self.metrics, Probes("starting"), None)
        watch_store(self.metrics, config, self.store)
        watch_process(self.metrics, config)

    async def start(self) -> None:
        """Start everything, in order."""
        await self.core.start()
        self._expiry_timer.start()
        self._descriptors.start()
        self._watchdog.start()
        self._exporting.start(self._config.transport.listen[0])
        self.desk.start()

    def _fail_all(self, why: str, answered: Callable[[], None]) -> None:
        """Fail every request because the device has stalled, and call `answered` once the doors have been told."""
        self.core.entry.gate.stall(why)
        self.core.fail_all(UnavailableError(f"{why}; try again", reason="DEVICE_STALLED"))
        self._loop.call_later(_FLUSH_S, answered)

    def _leave_stalled(self, why: str) -> None:
        """End the process, whose threads cannot be ended."""
        tell(self._worker, "failed", cause=why)
        leave(STALLED)

    async def finish(self, *, may_be_asked: bool) -> bool:
        """Wait until no door is connected, or, if no more may be asked, until nothing is in flight.

        Args:
            may_be_asked: whether doors drain and may still ask; otherwise every new request is refused.

        Returns:
            Whether that came within the drain grace.

        """
        if not may_be_asked:
            self.core.entry.gate.close(time.monotonic())
        grace_s = self._config.transport.drain_grace_s
        end = time.monotonic() + grace_s + (_DOORS_S if may_be_asked else 0.0)
        while self.desk.doors and (may_be_asked or self.core.in_flight):
            left_s = end - time.monotonic()
            if left_s <= 0.0:
                return False
            self.desk.changed.clear()
            with suppress(TimeoutError):
                # What is in flight is polled: no request pays for an event.
                await asyncio.wait_for(self.desk.changed.wait(), min(left_s, _POLL_S))
        await asyncio.sleep(_POLL_S)  # the last results are on their way
        return True

    async def stop(self) -> bool:
        """Stop everything; returns whether the device thread has ended, so that the process can exit normally."""
        self._expiry_timer.stop()
        self._descriptors.stop()
        self._watchdog.stop()
        self.core.begin_stop()
        self.desk.stop()
        has_ended = await self.core.stop()
        self._exporting.stop()
        if self._tracing is not None:
            end = time.monotonic() + self._config.transport.drain_grace_s
            await self._loop.run_in_executor(None, self._tracing.stop, end)
        close_background()
        return has_ended


async def serve(config: ServerConfig, lifecycle: Lifecycle, *_: object) -> None:
    """Serve doors until the supervisor says so, or has died and all doors have ended.

    Raises:
        ConfigError: the tracing is wrongly configured.
        DeviceError: the configured device does not exist.

    """
    assert config.worker is not None, "an engine without a supervisor. This is a bug."
    loop = asyncio.get_running_loop()
    engine = Engine(config.engine)
    warming_up = loop.run_in_executor(None, engine.warm_up, config.spare_kernels)
    if not await lifecycle.unless_stopped(warming_up):
        lifecycle.stopped(is_clean=True)
        leave()
    facts = facts_of(engine, warming_up.result())
    app = EngineApp(config, engine, facts, loop)
    tune_memory()
    await app.start()
    lifecycle.serving(
        version=__version__,
        device=facts.device,
        kernel=facts.kernel,
        threads=facts.threads,
        warm_up=f"{facts.warm_up_s:.2f}s",
    )
    try:
        await lifecycle.stop.wait()
        lifecycle.draining(in_flight=app.core.in_flight)
        is_clean = await app.finish(may_be_asked=lifecycle.is_orphan)
    finally:
        has_ended = await app.stop()
    lifecycle.stopped(is_clean=is_clean)
    if not has_ended:
        leave()
