"""The composition root: the only file that knows everyone. Start order and stop order stand in `serve`.

::

    start   engine (warm) -> device thread -> queue, admission, batcher -> service -> gRPC -> /metrics -> SERVING
    stop    NOT_SERVING, refuse what is new -> finish what is in flight -> gRPC -> device thread -> /metrics
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.admission import Admission, CostModel
from samplerd_server.batching.batcher import Batcher
from samplerd_server.batching.pending import Pending
from samplerd_server.engine.engine import Engine
from samplerd_server.log import event
from samplerd_server.metrics import Exporter, Metrics
from samplerd_server.request import RNG
from samplerd_server.transport.calls import Calls
from samplerd_server.transport.decode import Decoder
from samplerd_server.transport.server import BindError, GrpcServer
from samplerd_server.transport.service import SamplerService

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig

__all__ = ["serve"]

_LOG = logging.getLogger("samplerd")
_RPCS = ("Sample", "SampleStream", "GetServerInfo")


async def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        BindError: an address cannot be listened on.
        DeviceError: the configured device is not there.

    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    engine = Engine(config.engine)
    warm_up_s = await loop.run_in_executor(None, engine.warm_up)
    engine.start(loop)
    metrics = Metrics()
    pending, costs = Pending(), CostModel()
    admission = Admission(config.admission, pending, costs)
    batcher = Batcher(config.batching, pending=pending, costs=costs, engine=engine, metrics=metrics, loop=loop)
    calls = Calls(metrics)
    service = SamplerService(
        config,
        decoder=Decoder(limits=config.limits, capabilities=engine.sampler.capabilities),
        admission=admission,
        batcher=batcher,
        calls=calls,
        metrics=metrics,
        info=_describe(config, engine),
        loop=loop,
    )
    server = GrpcServer(config.transport, service, calls)
    metrics.describe_build(version=__version__, device=engine.device.name, kernel=engine.sampler.name, rng=RNG)
    metrics.watch("samplerd_queue_rows", "Rows that wait.", lambda: pending.rows)
    metrics.watch("samplerd_queue_bytes", "Bytes of rows that wait.", lambda: pending.bytes)
    metrics.watch("samplerd_in_flight_requests", "Requests that wait or are at the device.", lambda: batcher.in_flight)
    exporter = Exporter(metrics, config.metrics.listen) if config.metrics.listen else None
    try:
        await server.start()
        metrics_port = _start_exporter(exporter, config)
        event(
            _LOG,
            logging.INFO,
            "serving",
            version=__version__,
            listen=",".join(server.addresses),
            metrics=f"{config.metrics.listen.rpartition(':')[0]}:{metrics_port}" if exporter else "off",
            device=engine.device.name,
            kernel=engine.sampler.name,
            threads=engine.threads,
            warm_up=f"{warm_up_s:.2f}s",
        )
        await stop.wait()
        event(_LOG, logging.INFO, "draining", grace=f"{config.transport.drain_grace_s}s", in_flight=batcher.in_flight)
    finally:
        is_clean = await server.drain()
        await loop.run_in_executor(None, engine.stop)
        if exporter:
            exporter.stop()
    event(_LOG, logging.INFO if is_clean else logging.WARNING, "stopped", finished_in_grace=is_clean)


def _start_exporter(exporter: Exporter | None, config: ServerConfig) -> int:
    if exporter is None:
        return 0
    try:
        return exporter.start()
    except OSError as error:
        raise BindError(f"cannot listen on {config.metrics.listen} for /metrics: {error.strerror}") from error


def _describe(config: ServerConfig, engine: Engine) -> pb.GetServerInfoResponse:
    info = pb.GetServerInfoResponse(
        version=__version__,
        device=engine.device.name,
        device_name=engine.device.description,
        kernel=engine.sampler.name,
        rng=RNG,
        limits=pb.Limits(
            max_message_bytes=config.transport.max_message_bytes,
            max_rows_per_request=config.limits.max_rows,
            max_vocab_size=config.limits.max_vocab_size,
            max_samples_per_request=config.limits.max_samples,
            chunk_samples=config.limits.chunk_samples,
            max_batch_rows=config.batching.max_rows,
            max_batch_bytes=config.batching.max_bytes,
            queue_rows=config.admission.queue_rows,
            queue_bytes=config.admission.queue_bytes,
            max_top_n=config.limits.max_top_n,
            max_tokens_per_row=config.limits.max_tokens,
        ),
        capabilities=[*_RPCS, *sorted(engine.sampler.capabilities)],
        torch_version=engine.torch_version,
        threads=engine.threads,
    )
    info.start_time.GetCurrentTime()
    return info
