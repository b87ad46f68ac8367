"""The composition root. `App` shows the order of start and stop.

::

    start   engine (warm) -> device thread -> gRPC, SERVING -> HTTP -> /metrics
    stop    NOT_SERVING, refuse new requests -> finish those in flight -> gRPC -> HTTP -> device thread -> /metrics
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.app.core import LocalCore, facts_of
from samplerd_server.app.decoding import make_decoder
from samplerd_server.app.exporting import Exporting
from samplerd_server.app.gauges import watch_front
from samplerd_server.app.remote_core import RemoteCore
from samplerd_server.app.stores import make_cuda_regions, make_regions, make_store
from samplerd_server.config import WORKER
from samplerd_server.core.errors import UnavailableError
from samplerd_server.distributions.expiry_timer import ExpiryTimer
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.process.descriptors import DescriptorWatch
from samplerd_server.process.lifecycle import leave, tell
from samplerd_server.process.log import close_background, event
from samplerd_server.process.probes import Probes
from samplerd_server.process.tracing import make_tracing
from samplerd_server.process.watchdog import STALLED, Watchdog
from samplerd_server.transport.codec.compiled import compiled_varints, forgo_compiler
from samplerd_server.transport.doors.link import Link
from samplerd_server.transport.envoy.intake import Intake
from samplerd_server.transport.grpcio.certificates import Certificates
from samplerd_server.transport.grpcio.server import GrpcServer
from samplerd_server.transport.http.server import HttpServer
from samplerd_server.transport.oip.services import OPEN_INFERENCE, open_inference
from samplerd_server.transport.rpc.access import Access, refusals_of
from samplerd_server.transport.rpc.descriptor import rpcs_of
from samplerd_server.transport.rpc.distributions import DistributionService
from samplerd_server.transport.rpc.handlers import Handlers
from samplerd_server.transport.rpc.info import describe
from samplerd_server.transport.rpc.observer import RpcObserver
from samplerd_server.transport.rpc.policy import methods_of
from samplerd_server.transport.rpc.recorder import Recorder
from samplerd_server.transport.rpc.reply_bytes import ReplyBytes
from samplerd_server.transport.rpc.service import SamplerService
from samplerd_server.transport.rpc.streams import Streams
from samplerd_server.transport.rpc.submitter import Submitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.app.core import Core
    from samplerd_server.batching.batcher import Batcher
    from samplerd_server.batching.queue import TicketQueue
    from samplerd_server.config import ServerConfig
    from samplerd_server.engine.engine import Engine
    from samplerd_server.metrics.exporter import Exporter
    from samplerd_server.process.service_manager import ServiceManager
    from samplerd_server.transport.grpcio.starting import StartingServer

__all__ = ["RPCS", "App"]

RPCS = rpcs_of(SamplerService, DistributionService, *OPEN_INFERENCE)
"""All RPCs that are served."""
_LOG = logging.getLogger("samplerd")
_BLOCKED_S = 5.0
"""An event loop that has not turned for so long is not live; while it does, it turns ten times a second."""
_FLUSH_S = 0.2
"""Seconds in which the transport writes the last replies before a stalled process ends."""


class App:
    """The whole server, built and connected."""

    def __init__(
        self,
        config: ServerConfig,
        engine: Engine | Link,
        loop: asyncio.AbstractEventLoop,
        starting: StartingServer | None = None,
        *,
        exporter: Exporter | None = None,
        probes: Probes | None = None,
        service_manager: ServiceManager | None = None,
    ) -> None:
        """Build it.

        Args:
            config: the settings.
            engine: draws, and is warm; or the link to the engine that several doors share.
            loop: the event loop.
            starting: answers for this server until it is ready; None = nobody does.
            exporter: what listens for scrapers and probes already; None = one is made, if one is configured.
            probes: what /livez and /readyz tell; None = they are made with the exporter.
            service_manager: gets signs of life from this process; None = nobody expects them.

        """
        self._config = config
        self._loop = loop
        refusals = refusals_of(config.security)
        self.metrics = Metrics(rpc.labels._replace(refusals=refusals) for rpc in RPCS)
        is_door = isinstance(engine, Link)
        facts = engine.facts if isinstance(engine, Link) else facts_of(engine)
        self._facts = facts
        self._tracing = make_tracing(config, __version__, facts.device)
        self.core: Core
        """The queue, the batcher and the device, or the way to them."""
        if isinstance(engine, Link):
            self.core = RemoteCore(engine, loop)
        else:
            self.core = LocalCore(config, engine, loop, metrics=self.metrics, tracing=self._tracing)
        self.replies = ReplyBytes(config.admission.reply_bytes, self.metrics.shed)
        recorder = Recorder(config, self._tracing)
        self.observer = RpcObserver(self.metrics, self.replies, recorder)
        self.intake = Intake(config.admission.incoming_bytes, self.metrics.shed)
        self._gate = self.core.entry.gate
        submitter = Submitter(self.core.entry, loop, has_records=recorder.is_on)
        streams = Streams(
            self.metrics,
            self.replies,
            max_requests=config.transport.max_stream_requests,
            log_refusal=self.observer.log_refusal,
        )
        regions = make_regions(config, self.metrics, engine.arena if isinstance(engine, Link) else None)
        cuda_regions = make_cuda_regions(config, self.metrics, None if isinstance(engine, Link) else engine)
        if is_door:
            forgo_compiler()
        compiled_varints()  # replies are encoded with it
        decoder = make_decoder(config, facts, regions=regions, cuda_regions=cuda_regions)
        builder, note = (None, None) if isinstance(engine, Link) else (engine.cdf_index_builder, engine.note_rows)
        self.store = make_store(config, builder=builder, decoder=decoder, metrics=self.metrics, note=note)
        self._watchdog = Watchdog(
            config.engine.stall_limit_s,
            event_loop=lambda: self.core.loop_progress,
            device=lambda: self.core.device_progress,
            on_device_stall=lambda *own: loop.call_soon_threadsafe(self._fail_all, *own),
            leave=self._leave_stalled,
            service_manager=service_manager,
        )
        self._expiry_timer = ExpiryTimer(self.store, loop)
        self._descriptors = DescriptorWatch(loop)
        distributions = DistributionService(self.store, self.core.make_uploads(self.store, decoder, submitter))
        service = SamplerService(
            config.limits,
            decoder=decoder,
            submitter=submitter,
            streams=streams,
            distributions=distributions,
            info=describe(config, facts, RPCS, has_cuda_memory=cuda_regions.is_on),
            loop=loop,
            # Whether there is room for all is known to the engine, not to its doors.
            most_joint_rows=0 if is_door else min(config.batching.max_rows, config.admission.queue_rows),
        )
        inference = open_inference(
            decoder=decoder,
            submitter=submitter,
            streams=streams,
            cuda_regions=cuda_regions,
            metrics=self.metrics,
            drawn=self.core.drawn,
        )
        self._access = Access(config.security, self.metrics, methods_of(RPCS))
        self.handlers = Handlers(
            service,
            distributions,
            *inference,
            has_reflection=config.transport.reflection,
            observer=self.observer,
            access=self._access,
        )
        worker = config.worker
        self.server = GrpcServer(
            config.transport,
            self.handlers,
            self.observer,
            certificates=Certificates(config.security),
            shares_port=worker is not None,
            starting=starting,
        )
        self.http = HttpServer(config, self.handlers.generic, self.intake, self.observer.refuse)
        self.probes = probes or Probes("starting")
        """What /livez and /readyz tell."""
        self.exporting = Exporting(config, self.metrics, self.probes, exporter)
        self.has_ended = False
        """Whether the device thread has ended, so that the process can exit normally."""
        watch_front(
            self.metrics,
            config,
            facts,
            intake=self.intake,
            regions=regions,
            cuda_regions=cuda_regions,
            replies=self.replies,
            store=self.store,
            server=self.server,
            http=self.http,
            observer=self.observer,
        )
        if isinstance(engine, Link):
            engine.watch(self._on_engine, self.metrics)

    def _on_engine(self, *, is_there: bool) -> None:
        """Take note that the engine behind this door has ended, or is there again."""
        self.handlers.health.set_serving(is_serving=is_there)

    @property
    def queue(self) -> TicketQueue:
        """The queue of this process; a door has none."""
        assert isinstance(self.core, LocalCore), "a door has no queue. This is a bug."
        return self.core.queue

    @property
    def batcher(self) -> Batcher:
        """The batcher of this process; a door has none."""
        assert isinstance(self.core, LocalCore), "a door has no batcher. This is a bug."
        return self.core.batcher

    async def start(self) -> None:
        """Start everything, in order.

        Raises:
            BindError: an address cannot be listened on.

        """
        await self.core.start()
        self._expiry_timer.start()
        self._descriptors.start()
        self._watchdog.start()
        if self._config.transport.transport == "grpcio":
            await self.server.start()
            await self.http.start()
        else:
            self.handlers.health.set_serving(is_serving=True)
        self.exporting.start((self.server.addresses or self._config.transport.listen)[0])
        self._watch_probes()
        self._warn()

    def _watch_probes(self) -> None:
        self.probes.watch("event loop", self._reason_of_loop, is_live=True)
        self.probes.watch("device", lambda: self._gate.stalled, is_live=True)
        self.probes.watch("drain", lambda: "" if self._gate.is_ready else "health is NOT_SERVING for good")
        self.probes.stage("")

    def _reason_of_loop(self) -> str:
        blocked_s = time.monotonic() - self.core.turned_at
        return f"it has not turned for {blocked_s:.1f} s" if blocked_s > _BLOCKED_S else ""

    def _fail_all(self, why: str, answered: Callable[[], None]) -> None:
        """Fail every request because the device has stalled, and call `answered` once their callers have been told."""
        self._gate.stall(why)
        self.handlers.health.end()
        self.core.fail_all(UnavailableError(f"{why}; ask another server", reason="DEVICE_STALLED"))
        telling = self._loop.create_task(self.observer.wait_idle())
        # The replies are written by the transport after their handlers have ended.
        telling.add_done_callback(lambda _: self._loop.call_later(_FLUSH_S, answered))

    def _leave_stalled(self, why: str) -> None:
        """End the process, whose threads cannot be ended."""
        if self._config.worker is not None:
            tell(self._config.worker, "failed", cause=why)
        leave(STALLED)

    def _warn(self) -> None:
        """Warn, in the first worker only, that several workers share one CUDA device."""
        worker, device = self._config.worker, self._facts.device
        if worker is not None and worker.role == WORKER and worker.index == 0 and device != "cpu":
            event(_LOG, logging.WARNING, "several workers share one device", device=device, workers=worker.count)

    async def drain(self) -> bool:
        """Refuse new requests and finish those in flight; returns whether all finished within the drain grace."""
        self.handlers.drain()
        idle = asyncio.ensure_future(self.observer.wait_idle())
        done, _ = await asyncio.wait({idle}, timeout=self._config.transport.drain_grace_s)
        idle.cancel()
        return bool(done)

    async def stop(self) -> bool:
        """Drain, then stop everything; returns whether all requests in flight finished within the drain grace."""
        end = time.monotonic() + self._config.transport.drain_grace_s
        if self._config.transport.transport == "grpcio":
            is_clean = await self.server.drain()
            await self.http.stop()
        else:
            is_clean = await self.drain()
        self._expiry_timer.stop()
        self._descriptors.stop()
        self._watchdog.stop()
        self.core.begin_stop()
        self.has_ended = await self.core.stop()
        self.exporting.stop()
        for refusals in (self.observer.refusals, self._access.refusals):
            refusals.close()
        if self._tracing is not None:
            await self._loop.run_in_executor(None, self._tracing.stop, end)
        close_background()
        return is_clean
