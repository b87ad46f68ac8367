"""The composition root: the only file that knows every room. `App` shows the order of start and stop.

::

    start   engine (warm) -> device thread -> gRPC, SERVING -> HTTP -> /metrics
    stop    NOT_SERVING, refuse new requests -> finish those in flight -> gRPC -> HTTP -> device thread -> /metrics
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.batching.admission import Admission
from samplerd_server.batching.batcher import Batcher
from samplerd_server.batching.cost_model import CostModel
from samplerd_server.batching.queue import TicketQueue
from samplerd_server.batching.slicer import Slicer
from samplerd_server.config.credentials import read_tokens
from samplerd_server.core.errors import BindError
from samplerd_server.core.request import RNG
from samplerd_server.distributions.expiry_timer import ExpiryTimer
from samplerd_server.distributions.folder import FolderStore
from samplerd_server.distributions.segment import SegmentDecoder
from samplerd_server.distributions.store import MemoryStore
from samplerd_server.engine.engine import Engine
from samplerd_server.metrics.exporter import Exporter
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.process_metrics import ProcessMetrics
from samplerd_server.metrics.snapshot import SnapshotServer
from samplerd_server.process.lifecycle import leave
from samplerd_server.process.log import event
from samplerd_server.process.memory import tune_memory
from samplerd_server.transport.codec.by_distribution import decode_fixed_params
from samplerd_server.transport.codec.compiled import compiled_scan, compiled_varints
from samplerd_server.transport.codec.decode import Decoder
from samplerd_server.transport.grpcio.certificates import Certificates
from samplerd_server.transport.grpcio.server import GrpcServer
from samplerd_server.transport.http.server import HttpServer
from samplerd_server.transport.oip.services import OPEN_INFERENCE, open_inference
from samplerd_server.transport.rpc.descriptor import rpcs_of
from samplerd_server.transport.rpc.distributions import DistributionService
from samplerd_server.transport.rpc.handlers import Handlers
from samplerd_server.transport.rpc.info import describe
from samplerd_server.transport.rpc.observer import RpcObserver
from samplerd_server.transport.rpc.service import SamplerService
from samplerd_server.transport.rpc.streams import Streams
from samplerd_server.transport.rpc.submitter import Submitter
from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.config import ServerConfig
    from samplerd_server.distributions.store import Store
    from samplerd_server.process.lifecycle import Lifecycle
    from samplerd_server.transport.grpcio.starting import StartingServer

__all__ = ["App", "serve"]

RPCS = rpcs_of(SamplerService, DistributionService, *OPEN_INFERENCE)
"""All RPCs that are served."""
_LOG = logging.getLogger("samplerd")
_ABANDON_AFTER_S = 2.0
"""How long to wait for a batch that is still running after the drain, whose results no caller wants."""


class App:
    """The whole server, built and connected."""

    def __init__(
        self,
        config: ServerConfig,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        starting: StartingServer | None = None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._loop = loop
        self.metrics = Metrics(rpc.labels for rpc in RPCS)
        self.queue = TicketQueue()
        cost_model = CostModel()
        self.slicer = slicer = Slicer(config.batching, cost_model=cost_model, metrics=self.metrics)
        self.batcher = Batcher(
            config.batching,
            queue=self.queue,
            slicer=slicer,
            cost_model=cost_model,
            engine=engine,
            metrics=self.metrics,
            loop=loop,
        )
        self.observer = RpcObserver(self.metrics)
        admission = Admission(config.admission, self.queue, slicer, cost_model)
        submitter = Submitter(admission, self.batcher, self.metrics, loop)
        streams = Streams(self.metrics, max_requests=config.transport.max_stream_requests)
        self._regions = regions = self._make_regions()
        compiled_varints()  # replies are encoded with it
        decoder = Decoder(
            limits=config.limits,
            capabilities=engine.sampler.capabilities,
            scan=compiled_scan(),
            regions=regions,
        )
        self.store = self._make_store(decoder)
        self._expiry_timer = ExpiryTimer(self.store, loop)
        self._distributions = DistributionService(
            config.distributions,
            store=self.store,
            cdf_index_builder=engine.cdf_index_builder,
            decoder=decoder,
            submitter=submitter,
            loop=loop,
        )
        service = SamplerService(
            config.limits,
            decoder=decoder,
            submitter=submitter,
            streams=streams,
            distributions=self._distributions,
            info=describe(config, engine, RPCS),
            loop=loop,
        )
        inference = open_inference(
            decoder=decoder, submitter=submitter, streams=streams, regions=regions, metrics=self.metrics
        )
        self.handlers = Handlers(
            service,
            self._distributions,
            *inference,
            has_reflection=config.transport.reflection,
            observer=self.observer,
            tokens=read_tokens(config.security.token_file),
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
        self.http = HttpServer(config, self.handlers.generic)
        self._exporter: Exporter | None = None
        self._snapshot_server: SnapshotServer | None = None
        if worker is not None and worker.metrics_socket:
            self._snapshot_server = SnapshotServer(worker.metrics_socket, self.metrics, ProcessMetrics())
        elif worker is None and config.metrics.listen:
            self._exporter = Exporter(config.metrics.listen, self.metrics, ProcessMetrics())
        self.metrics_address = "off"
        self.has_ended = False
        """Whether the device thread has ended, so that the process can exit normally."""
        self._watch()

    def _make_store(self, decoder: Decoder) -> Store:
        config, builder = self._config.distributions, self._engine.cdf_index_builder
        segment_decoder = SegmentDecoder(
            params=lambda description: decode_fixed_params(description, decoder),
            cdf_index=None if builder is None else builder.open,
        )
        worker = self._config.worker
        make: Callable[..., Store] = MemoryStore
        if worker is not None and worker.distributions:
            make = partial(FolderStore, Path(worker.distributions))
        return make(
            max_count=config.max_count,
            max_bytes=config.max_bytes,
            clock=time.time,
            events=self.metrics.distribution_events,
            segment_decoder=segment_decoder,
        )

    def _make_regions(self) -> SharedMemoryReader | None:
        transport = self._config.transport
        if not transport.shared_memory_prefix:
            return None
        # The limit of a message: copying the rows then blocks the event loop no longer than receiving them would.
        return SharedMemoryReader(
            transport.shared_memory_prefix, max_bytes=transport.max_message_bytes, metrics=self.metrics
        )

    def _watch(self) -> None:
        """Connect the gauges to the values that a scrape reads."""
        metrics, engine, queue, store, regions = self.metrics, self._engine, self.queue, self.store, self._regions
        slicer = self.slicer
        metrics.build.describe(version=__version__, device=engine.device.name, kernel=engine.sampler.name, rng=RNG)
        metrics.queue_rows.watch(lambda: queue.rows + slicer.rows)
        metrics.queue_bytes.watch(lambda: queue.bytes + slicer.bytes)
        metrics.in_flight_requests.watch(lambda: self.batcher.in_flight)
        metrics.distributions.watch(lambda: store.count)
        metrics.distribution_bytes.watch(lambda: store.size_bytes)
        metrics.shared_memory_idle_bytes.watch(lambda: 0 if regions is None else regions.idle_bytes)

    async def start(self) -> None:
        """Start everything, in order.

        Raises:
            BindError: an address cannot be listened on.

        """
        self._engine.start(self._loop)
        self._expiry_timer.start()
        if self._config.transport.transport == "grpcio":
            await self.server.start()
            await self.http.start()
        else:
            await self.handlers.set_serving()
        if self._exporter is not None:
            listen = self._config.metrics.listen
            try:
                port = self._exporter.start()
            except OSError as error:
                raise BindError(f"cannot listen on {listen} for /metrics: {error.strerror}") from error
            self.metrics_address = f"{listen.rpartition(':')[0]}:{port}"
        if self._snapshot_server is not None:
            self._snapshot_server.start()
        self._warn()

    def _warn(self) -> None:
        """Warn, in the first worker only, that several workers share one CUDA device."""
        worker, device = self._config.worker, self._engine.device.name
        if worker is not None and worker.index == 0 and device != "cpu":
            event(_LOG, logging.WARNING, "several workers share one device", device=device, workers=worker.count)

    async def drain(self) -> bool:
        """Refuse new requests and finish those in flight; returns whether all finished within the drain grace."""
        await self.handlers.drain()
        idle = asyncio.ensure_future(self.observer.wait_idle())
        done, _ = await asyncio.wait({idle}, timeout=self._config.transport.drain_grace_s)
        idle.cancel()
        return bool(done)

    async def stop(self) -> bool:
        """Drain, then stop everything; returns whether all requests in flight finished within the drain grace."""
        if self._config.transport.transport == "grpcio":
            is_clean = await self.server.drain()
            await self.http.stop()
        else:
            is_clean = await self.drain()
        self._expiry_timer.stop()
        self._distributions.close()
        self.has_ended = await self._loop.run_in_executor(None, self._engine.stop, _ABANDON_AFTER_S)
        if self._exporter is not None:
            self._exporter.stop()
        if self._snapshot_server is not None:
            self._snapshot_server.stop()
        return is_clean


async def serve(config: ServerConfig, lifecycle: Lifecycle, starting: StartingServer | None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        config: the settings.
        lifecycle: watches already.
        starting: answers for this server until it is ready; None = nobody does.

    Raises:
        BindError: an address cannot be listened on.
        ConfigError: a certificate, key or token cannot be used.
        DeviceError: the configured device does not exist.

    """
    loop = asyncio.get_running_loop()
    engine = Engine(config.engine)
    warming_up = loop.run_in_executor(None, engine.warm_up, config.spare_kernels)
    if not await lifecycle.unless_stopped(warming_up):
        lifecycle.stopped(is_clean=True)
        leave()
    app = App(config, engine, loop, starting)
    tune_memory()
    if not await lifecycle.may_listen():
        lifecycle.stopped(is_clean=True)
        leave()
    try:
        await app.start()
        lifecycle.serving(
            version=__version__,
            listen=",".join(app.server.addresses),
            http=app.http.address,
            metrics=app.metrics_address,
            device=engine.device.name,
            kernel=engine.sampler.name,
            threads=engine.threads,
            warm_up=f"{warming_up.result():.2f}s",
        )
        await lifecycle.stop.wait()
        lifecycle.draining(in_flight=app.batcher.in_flight)
    finally:
        is_clean = await app.stop()
    lifecycle.stopped(is_clean=is_clean)
    if not app.has_ended:
        leave()
