"""Serve: warm up, start, wait for a signal, drain, stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.app.app import App
from samplerd_server.engine.engine import Engine
from samplerd_server.process.lifecycle import leave
from samplerd_server.process.memory import tune_memory

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig
    from samplerd_server.metrics.exporter import Exporter
    from samplerd_server.process.lifecycle import Lifecycle
    from samplerd_server.process.probes import Probes
    from samplerd_server.transport.grpcio.starting import StartingServer

__all__ = ["serve"]


async def serve(
    config: ServerConfig,
    lifecycle: Lifecycle,
    starting: StartingServer | None,
    exporter: Exporter | None,
    probes: Probes,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        config: the settings.
        lifecycle: watches already.
        starting: answers for this server until it is ready; None = nobody does.
        exporter: listens for scrapers and probes already; None = nobody does.
        probes: what it tells probes.

    Raises:
        BindError: an address cannot be listened on.
        ConfigError: a certificate, key or token cannot be used.
        DeviceError: the configured device does not exist.

    """
    loop = asyncio.get_running_loop()
    engine = Engine(config.engine)
    probes.stage("warming up; kernels that no cache holds are compiled, which takes minutes")
    warming_up = loop.run_in_executor(None, engine.warm_up, config.spare_kernels)
    if not await lifecycle.unless_stopped(warming_up):
        lifecycle.stopped(is_clean=True)
        leave()
    app = App(
        config,
        engine,
        loop,
        starting,
        exporter=exporter,
        probes=probes,
        service_manager=lifecycle.service_manager,
    )
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
            metrics=app.exporting.address,
            device=engine.device.name,
            kernel=engine.sampler.name,
            threads=engine.threads,
            warm_up=f"{warming_up.result():.2f}s",
        )
        await lifecycle.stop.wait()
        app.handlers.leave()
        lifecycle.draining(in_flight=app.batcher.in_flight)
        await lifecycle.delay()
    finally:
        is_clean = await app.stop()
    lifecycle.stopped(is_clean=is_clean)
    if not app.has_ended:
        leave()
