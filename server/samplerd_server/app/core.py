"""The core of a server: the queue, the batcher and the device, without anything that callers connect to.

::

    a server         front (app.py)  ──▶  LocalCore
    with --doors     front (app.py)  ──▶  RemoteCore (remote_core.py)  ──socket──▶  LocalCore (engine_app.py)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from samplerd_server.app.gauges import watch_core
from samplerd_server.batching.admission import Admission
from samplerd_server.batching.batcher import Batcher
from samplerd_server.batching.cost_model import CostModel
from samplerd_server.batching.queue import TicketQueue
from samplerd_server.batching.slicer import Slicer
from samplerd_server.batching.sweeper import Sweeper
from samplerd_server.core.engine_facts import EngineFacts
from samplerd_server.process.watchdog import Progress
from samplerd_server.transport.rpc.queue_entry import QueueEntry
from samplerd_server.transport.rpc.uploads import Uploads

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from samplerd_server.batching.batch_spans import BatchSpans
    from samplerd_server.config import ServerConfig
    from samplerd_server.core.drawn import Drawn
    from samplerd_server.core.errors import SamplerdError
    from samplerd_server.distributions.store import Store
    from samplerd_server.engine.engine import Engine
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.rpc.distributions import CreatesDistributions
    from samplerd_server.transport.rpc.submitter import Entry, Submitter

__all__ = ["Core", "LocalCore", "facts_of"]

_ABANDON_AFTER_S = 2.0
"""How long to wait for a batch that is still running after the drain, whose results no caller wants."""


class Core(Protocol):
    """What a front needs of the core: `LocalCore`, or `RemoteCore` in a door."""

    @property
    def entry(self) -> Entry:
        """Where tickets go."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests in the queue or on the device."""
        ...

    def make_uploads(self, store: Store, decoder: Decoder, submitter: Submitter) -> CreatesDistributions:
        """Give what takes uploads."""
        ...

    async def drawn(self) -> Drawn:
        """Give what was drawn since the start."""
        ...

    async def start(self) -> None:
        """Start what runs by itself."""
        ...

    def begin_stop(self) -> None:
        """Stop what runs by itself; the device finishes what it has."""
        ...

    async def stop(self) -> bool:
        """Stop the device; returns whether it has ended."""
        ...

    def fail_all(self, error: SamplerdError) -> None:
        """Answer every request with an error."""
        ...

    @property
    def loop_progress(self) -> Progress:
        """How often the event loop has turned, as far as that is counted."""
        ...

    @property
    def device_progress(self) -> Progress:
        """How many batches the device of this process has finished."""
        ...

    @property
    def turned_at(self) -> float:
        """When the event loop last turned, on the monotonic clock."""
        ...


def facts_of(engine: Engine, warm_up_s: float = 0.0) -> EngineFacts:
    """Give what callers and metrics are told of an engine."""
    return EngineFacts(
        device=engine.device.name,
        device_description=engine.device.description,
        kernel=engine.sampler.name,
        threads=engine.threads,
        torch_version=engine.torch_version,
        capabilities=engine.sampler.capabilities,
        warm_up_s=warm_up_s,
    )


class LocalCore:
    """The core in this process."""

    def __init__(
        self,
        config: ServerConfig,
        engine: Engine,
        loop: AbstractEventLoop,
        *,
        metrics: Metrics,
        tracing: BatchSpans | None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._loop = loop
        self._metrics = metrics
        self.queue = TicketQueue()
        self.cost_model = CostModel()
        self.slicer = Slicer(
            config.batching, cost_model=self.cost_model, metrics=metrics, most_draws=engine.sampler.most_draws
        )
        self.batcher = Batcher(
            config.batching,
            queue=self.queue,
            slicer=self.slicer,
            cost_model=self.cost_model,
            engine=engine,
            metrics=metrics,
            loop=loop,
            tracing=tracing,
        )
        admission = Admission(
            config.admission,
            queue=self.queue,
            slicer=self.slicer,
            device=self.batcher.device,
            cost_model=self.cost_model,
        )
        self._sweeper = Sweeper(self.batcher, loop)
        self.entry = QueueEntry(admission, self.batcher, self._sweeper, metrics, batch_rows=config.batching.max_rows)
        self._uploads: Uploads | None = None
        watch_core(metrics, config, batcher=self.batcher, engine=engine, queue=self.queue, slicer=self.slicer)

    def make_uploads(self, store: Store, decoder: Decoder, submitter: Submitter) -> Uploads:
        """Give what takes uploads; see `Core`."""
        self._uploads = Uploads(
            self._config.distributions,
            store=store,
            cdf_index_builder=self._engine.cdf_index_builder,
            decoder=decoder,
            submitter=submitter,
            loop=self._loop,
        )
        return self._uploads

    @property
    def in_flight(self) -> int:
        """Requests in the queue or on the device."""
        return self.batcher.in_flight

    async def drawn(self) -> Drawn:
        """Give what was drawn since the start."""
        return self._metrics.drawn()

    async def start(self) -> None:
        """Start the device thread and the sweeper."""
        await self._loop.run_in_executor(None, self._engine.link_kernels)
        self._engine.start(self._loop)
        self._sweeper.start()

    def begin_stop(self) -> None:
        """Sweep no more, and start no further upload."""
        self._sweeper.stop()
        if self._uploads is not None:
            self._uploads.close()

    async def stop(self) -> bool:
        """End the device thread; returns whether it has ended."""
        return await self._loop.run_in_executor(None, self._engine.stop, _ABANDON_AFTER_S)

    def fail_all(self, error: SamplerdError) -> None:
        """Answer every request with an error."""
        self.batcher.fail_all(error)

    @property
    def loop_progress(self) -> Progress:
        """How often the sweeper has run."""
        return Progress(self._sweeper.beats, is_busy=True)

    @property
    def device_progress(self) -> Progress:
        """How many batches the device has finished."""
        return Progress(self.batcher.finished, is_busy=self.batcher.is_computing)

    @property
    def turned_at(self) -> float:
        """When the sweeper last ran."""
        return self._sweeper.swept_at
