"""The supervisor: holds the ports, starts the workers, shows their metrics, and drains them all.

::

    start   ports -> /metrics -> workers (warm) -> workers (serving), all at once
    stop    workers, all at once -> /metrics -> ports

It does not import torch and serves no request itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from samplerd import __version__
from samplerd_server.config import ENGINE
from samplerd_server.config.credentials import check_security
from samplerd_server.metrics.exporter import Exporter
from samplerd_server.process.cpu_quota import usable_cores
from samplerd_server.process.lifecycle import Lifecycle
from samplerd_server.process.log import event
from samplerd_server.process.probes import Probes
from samplerd_server.process.temporary_folder import make_temporary_folder
from samplerd_server.process.workers.aggregator import MetricsAggregator
from samplerd_server.process.workers.cores import thread_variables, threads_beside_doors, threads_per_worker
from samplerd_server.process.workers.pool import WorkerPool, WorkersError, roles_of
from samplerd_server.process.workers.ports import PortError, Ports
from samplerd_server.process.workers.source import MergedSource

if TYPE_CHECKING:
    import tempfile
    from collections.abc import Callable

    from samplerd_server.config import ServerConfig

__all__ = ["PortError", "WorkersError", "serve_workers"]

_LOG = logging.getLogger("samplerd")


class Starting(Protocol):
    """What answers on the addresses until the workers do: `transport/grpcio/starting.py`."""

    async def start(self) -> None:
        """Listen and answer."""

    async def stop(self) -> None:
        """End."""


async def serve_workers(
    config: ServerConfig,
    start: Callable[[ServerConfig], Starting],
    offer_page: Callable[[Exporter, ServerConfig, str], None],
) -> None:
    """Serve with several workers until SIGTERM or SIGINT, then drain; a second signal ends them at once.

    Args:
        config: the settings.
        start: makes what answers until the workers do, for the exact addresses.
        offer_page: serves the page beside /metrics, which asks the workers at this address.

    Raises:
        ConfigError: a certificate, key or token cannot be used.
        PortError: an address cannot be listened on.
        WorkersError: the workers cannot start.

    """
    if config.workers.doors and not hasattr(os, "memfd_create"):
        raise WorkersError(f"--doors {config.workers.doors}: doors need memfd_create(2), which this system lacks")
    lifecycle = Lifecycle(config)
    lifecycle.watch()
    # Before any worker starts, so that an error is reported at once.
    check_security(config.security)
    aggregator = MetricsAggregator([role if role == ENGINE else str(at) for at, role in enumerate(roles_of(config))])
    ports = Ports()
    exporter = Exporter(config.metrics.listen, MergedSource(aggregator, asyncio.get_running_loop()))
    probes = Probes("starting workers")
    probes.answer_on(exporter)
    with _shared_folder() as folder:
        try:
            config = _share(config, ports)
            metrics = _export(exporter, config.metrics.listen)
            starting = start(config)
            await starting.start()
            lifecycle.starting(version=__version__, listen=",".join(config.transport.listen), metrics=metrics)
            pool = WorkerPool(config, aggregator, Path(folder), _environment(config.engine.threads))
            probes.watch("workers", pool.reason)
            probes.stage("")
            offer_page(exporter, config, config.transport.listen[0])
            is_clean = await _run_pool(pool, lifecycle, config, metrics, starting)
        finally:
            await asyncio.to_thread(exporter.stop)
            ports.close()
    lifecycle.stopped(is_clean=is_clean)


def _shared_folder() -> tempfile.TemporaryDirectory[str]:
    """Make the folder of the workers' handoff files and sockets."""
    try:
        return make_temporary_folder()
    except OSError as error:
        raise WorkersError(f"cannot make a folder for what workers share: {error.strerror}") from error


async def _run_pool(
    pool: WorkerPool, lifecycle: Lifecycle, config: ServerConfig, metrics: str, starting: Starting
) -> bool:
    """Run the pool from its start to its end; returns whether every request in flight finished within the grace."""
    beating = None
    counts = {"doors": config.workers.doors} if config.workers.doors else {"workers": config.workers.count}
    try:
        if await lifecycle.unless_stopped(pool.start()):
            await starting.stop()
            served = pool.serves() | {"metrics": metrics} | counts
            lifecycle.serving(**served)
            beating = asyncio.create_task(lifecycle.service_manager.beat(_turns))
            await lifecycle.unless_stopped(pool.watch())
        lifecycle.draining(**counts)
    finally:
        await starting.stop()
        is_clean = await pool.drain(lifecycle.hurry)
        if beating is not None:
            beating.cancel()
    return is_clean


async def _turns() -> bool:
    """Say that this event loop turns; what hangs in a worker is the pool's to notice."""
    return True


def _share(config: ServerConfig, ports: Ports) -> ServerConfig:
    """Give the configuration of a worker: the exact addresses, which it reserves, and its share of the cores."""
    workers, doors, cores = config.workers.count, config.workers.doors, usable_cores()
    if max(workers, doors) > cores:
        what = {"doors": doors} if doors else {"workers": workers}
        event(_LOG, logging.WARNING, f"more {next(iter(what))} than cores", **what, cores=cores)
    threads = config.engine.threads
    threads = threads_beside_doors(threads, doors, cores) if doors else threads_per_worker(threads, workers, cores)
    return dataclasses.replace(
        config,
        transport=dataclasses.replace(
            config.transport,
            listen=ports.hold(config.transport.listen),
            http_listen="".join(ports.hold([config.transport.http_listen] if config.transport.http_listen else [])),
        ),
        engine=dataclasses.replace(config.engine, threads=threads),
    )


def _environment(threads: int) -> dict[str, str]:
    """Give a worker's environment: the supervisor's without samplerd's variables, which the handoff file replaces."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}
    return environment | thread_variables(threads, environment)


def _export(exporter: Exporter, listen: str) -> str:
    """Begin to serve /metrics; returns the address, or "off"."""
    if not listen:
        return "off"
    try:
        port = exporter.start()
    except OSError as error:
        raise PortError(f"cannot listen on {listen} for /metrics: {error.strerror}") from error
    return f"{listen.rpartition(':')[0]}:{port}"
