"""Where the value of each gauge is read, at a scrape."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.config.certificate import CertificateExpiry
from samplerd_server.core.request import RNG
from samplerd_server.core.thread_clock import ThreadClock
from samplerd_server.process.log import dropped_lines

if TYPE_CHECKING:
    from samplerd_server.batching.batcher import Batcher
    from samplerd_server.batching.queue import TicketQueue
    from samplerd_server.batching.slicer import Slicer
    from samplerd_server.config import ServerConfig
    from samplerd_server.distributions.store import Store
    from samplerd_server.engine.engine import Engine
    from samplerd_server.metrics.metrics import Metrics
    from samplerd_server.transport.envoy.intake import Intake
    from samplerd_server.transport.grpcio.server import GrpcServer
    from samplerd_server.transport.http.server import HttpServer
    from samplerd_server.transport.rpc.observer import RpcObserver
    from samplerd_server.transport.rpc.reply_bytes import ReplyBytes
    from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

__all__ = ["watch_gauges", "worker_label"]


def worker_label(config: ServerConfig) -> str:
    """Give the number of this worker, as metrics have it."""
    return str(config.worker.index if config.worker else 0)


def watch_gauges(
    metrics: Metrics,
    config: ServerConfig,
    *,
    batcher: Batcher,
    engine: Engine,
    intake: Intake,
    queue: TicketQueue,
    regions: SharedMemoryReader | None,
    replies: ReplyBytes,
    slicer: Slicer,
    store: Store,
    server: GrpcServer,
    http: HttpServer,
    observer: RpcObserver,
) -> None:
    """Connect the gauges to the values that a scrape reads. On the event loop's thread."""
    event_loop = asyncio.get_event_loop()
    loop, worker = ThreadClock(), worker_label(config)
    metrics.build.describe(version=__version__, device=engine.device.name, kernel=engine.sampler.name, rng=RNG)
    metrics.transport_waiting_calls.watch(lambda: server.waiting)
    metrics.unread_calls.watch(lambda: server.dropped, "waiting")
    metrics.unread_calls.watch(lambda: server.unread + observer.unread, "reading")
    metrics.worker_connections.watch(lambda: server.connections + http.connections, worker)
    metrics.worker_tasks.watch(lambda: len(asyncio.all_tasks(event_loop)), worker)
    metrics.worker_calls.watch(lambda: observer.begun, worker)
    metrics.worker_event_loop_cpu_seconds.watch(lambda: loop.seconds, worker)
    metrics.worker_device_cpu_seconds.watch(lambda: engine.device_cpu_s, worker)
    if config.security.certificate:
        expiry = CertificateExpiry(config.security)
        metrics.certificate_expiry_timestamp_seconds.watch(lambda: expiry.timestamp)
    metrics.queue_rows.watch(lambda: queue.rows + slicer.rows)
    metrics.incoming_bytes.watch(lambda: intake.bytes)
    metrics.reply_bytes.watch(lambda: replies.bytes)
    metrics.queue_bytes.watch(lambda: queue.bytes + slicer.bytes)
    metrics.queue_limit_rows.watch(lambda: config.admission.queue_rows)
    metrics.queue_limit_bytes.watch(lambda: config.admission.queue_bytes)
    metrics.batch_age_seconds.watch(lambda: engine.batch_age_s)
    metrics.batch_limit_rows.watch(lambda: config.batching.max_rows)
    metrics.distribution_limit.watch(lambda: config.distributions.max_count)
    metrics.distribution_limit_bytes.watch(lambda: config.distributions.max_bytes)
    metrics.dropped_log_lines.watch(dropped_lines)
    metrics.in_flight_requests.watch(lambda: batcher.in_flight)
    metrics.distributions.watch(lambda: store.count)
    metrics.distribution_bytes.watch(lambda: store.size_bytes)
    metrics.shared_memory_idle_bytes.watch(lambda: 0 if regions is None else regions.idle_bytes)
