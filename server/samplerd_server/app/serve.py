"""Serve as a whole server: warm up, and run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from samplerd_server.app.app import App
from samplerd_server.app.core import facts_of
from samplerd_server.app.run import run
from samplerd_server.engine.engine import Engine
from samplerd_server.process.lifecycle import leave

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
    await run(app, facts_of(engine, warming_up.result()), lifecycle)
