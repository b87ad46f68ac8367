"""Where the value of each gauge is read, at a scrape."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.config.certificate import CertificateExpiry
from samplerd_server.core.request import RNG
from samplerd_server.core.thread_clock import ThreadClock
from samplerd_server.process.log import dropped_lines
from samplerd_server.transport.shared_memory.cuda_regions import MAX_REGIONS

if TYPE_CHECKING:
    from samplerd_server.batching.batcher import Batcher
    from samplerd_server.batching.queue import TicketQueue
    from samplerd_server.batching.slicer import Slicer
    from samplerd_server.config import ServerConfig
    from samplerd_server.core.engine_facts import EngineFacts
    from samplerd_server.distributions.store import Store
    from samplerd_server.engine.engine import Engine
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.envoy.intake import Intake
    from samplerd_server.transport.grpcio.server import GrpcServer
    from samplerd_server.transport.http.server import HttpServer
    from samplerd_server.transport.rpc.observer import RpcObserver
    from samplerd_server.transport.rpc.reply_bytes import ReplyBytes
    from samplerd_server.transport.shared_memory.cuda_regions import CudaRegions
    from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

__all__ = ["watch_core", "watch_front", "watch_process", "watch_store", "worker_label"]


def worker_label(config: ServerConfig) -> str:
    """Give the name of this worker, as metrics have it."""
    return config.worker.name if config.worker else "0"


def watch_front(
    metrics: Metrics,
    config: ServerConfig,
    facts: EngineFacts,
    *,
    intake: Intake,
    regions: SharedMemoryReader | None,
    cuda_regions: CudaRegions,
    replies: ReplyBytes,
    store: Store,
    server: GrpcServer,
    http: HttpServer,
    observer: RpcObserver,
) -> None:
    """Connect the gauges of what callers connect to. On the event loop's thread."""
    worker = worker_label(config)
    metrics.build.describe(version=__version__, device=facts.device, kernel=facts.kernel, rng=RNG)
    metrics.transport_waiting_calls.watch(lambda: server.waiting)
    metrics.unread_calls.watch(lambda: server.dropped, "waiting")
    metrics.unread_calls.watch(lambda: server.unread + observer.unread, "reading")
    metrics.worker_connections.watch(lambda: server.connections + http.connections, worker)
    metrics.worker_calls.watch(lambda: observer.begun, worker)
    if config.security.certificate:
        expiry = CertificateExpiry(config.security)
        metrics.certificate_expiry_timestamp_seconds.watch(lambda: expiry.timestamp)
    metrics.incoming_bytes.watch(lambda: intake.bytes)
    metrics.reply_bytes.watch(lambda: replies.bytes)
    watch_cuda_regions(metrics, cuda_regions)
    metrics.shared_memory_idle_bytes.watch(lambda: 0 if regions is None else regions.idle_bytes)
    watch_store(metrics, config, store)
    watch_process(metrics, config)


def watch_cuda_regions(metrics: Metrics, regions: CudaRegions) -> None:
    """Connect the gauges of registered memory of CUDA devices."""
    metrics.cuda_shared_memory_regions.watch(lambda: regions.count)
    metrics.cuda_shared_memory_limit_regions.watch(lambda: MAX_REGIONS if regions.is_on else 0)
    metrics.cuda_shared_memory_open_bytes.watch(lambda: regions.open_bytes)
    metrics.cuda_shared_memory_limit_bytes.watch(lambda: regions.bounds.open_bytes if regions.is_on else 0)


def watch_store(metrics: Metrics, config: ServerConfig, store: Store) -> None:
    """Connect the gauges of distributions."""
    metrics.distribution_limit.watch(lambda: config.distributions.max_count)
    metrics.distribution_limit_bytes.watch(lambda: config.distributions.max_bytes)
    metrics.distributions.watch(lambda: store.count)
    metrics.distribution_bytes.watch(lambda: store.size_bytes)


def watch_process(metrics: Metrics, config: ServerConfig) -> None:
    """Connect the gauges of the process. On the event loop's thread."""
    event_loop = asyncio.get_event_loop()
    loop, worker = ThreadClock(), worker_label(config)
    metrics.worker_tasks.watch(lambda: len(asyncio.all_tasks(event_loop)), worker)
    metrics.worker_event_loop_cpu_seconds.watch(lambda: loop.seconds, worker)
    metrics.dropped_log_lines.watch(dropped_lines)


def watch_core(
    metrics: Metrics, config: ServerConfig, *, batcher: Batcher, engine: Engine, queue: TicketQueue, slicer: Slicer
) -> None:
    """Connect the gauges of the queue, the batches and the device."""
    for attribute, read in engine.device_numbers.items():
        getattr(metrics, attribute).watch(read, engine.device.name)
    metrics.worker_device_cpu_seconds.watch(lambda: engine.device_cpu_s, worker_label(config))
    metrics.queue_rows.watch(lambda: queue.rows + slicer.rows)
    metrics.queue_bytes.watch(lambda: queue.bytes + slicer.bytes)
    metrics.queue_limit_rows.watch(lambda: config.admission.queue_rows)
    metrics.queue_limit_bytes.watch(lambda: config.admission.queue_bytes)
    metrics.batch_age_seconds.watch(lambda: engine.batch_age_s)
    metrics.batch_limit_rows.watch(lambda: config.batching.max_rows)
    metrics.in_flight_requests.watch(lambda: batcher.in_flight)
