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
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.config.credentials import read_tls, read_tokens
from samplerd_server.metrics.metrics import Exporter
from samplerd_server.process.lifecycle import Lifecycle
from samplerd_server.process.log import event
from samplerd_server.process.workers.aggregator import MetricsAggregator
from samplerd_server.process.workers.cores import thread_variables, threads_per_worker
from samplerd_server.process.workers.exporter import Merged
from samplerd_server.process.workers.pool import WorkerPool, WorkersError
from samplerd_server.process.workers.ports import PortError, Ports

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig

__all__ = ["PortError", "WorkersError", "serve_workers"]

_LOG = logging.getLogger("samplerd")
_MEMORY = "/dev/shm"  # noqa: S108  # the folder in it is made for us alone
"""Writable even where the root file system is not."""


async def serve_workers(config: ServerConfig) -> None:
    """Serve with several workers until SIGTERM or SIGINT, then drain; a second signal ends them at once.

    Raises:
        ConfigError: a certificate, key or token cannot be used.
        PortError: an address cannot be listened on.
        WorkersError: the workers cannot start.

    """
    life = Lifecycle(config)
    life.watch()
    # Here, where the error can be told at once.
    read_tls(config.security)
    read_tokens(config.security.token_file)
    census = MetricsAggregator(config.workers.count)
    ports = Ports()
    exporter = Exporter(config.metrics.listen, Merged(census, asyncio.get_running_loop()))
    with _private_folder() as folder:
        try:
            config = _share(config, ports.hold(config.transport.listen))
            metrics = _export(exporter, config.metrics.listen)
            team = WorkerPool(config, census, Path(folder), _variables(config.engine.threads))
            is_clean = await _lead(team, life, config, metrics)
        finally:
            await asyncio.to_thread(exporter.stop)
            ports.close()
    life.stopped(is_clean=is_clean)


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """Make the folder of the workers' configurations and sockets: in memory where that can be."""
    try:
        return tempfile.TemporaryDirectory(prefix="samplerd-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
    except OSError as error:
        raise WorkersError(f"cannot make a folder for what workers share: {error.strerror}") from error


async def _lead(team: WorkerPool, life: Lifecycle, config: ServerConfig, metrics: str) -> bool:
    """Run the team from its start to its end; returns whether all in flight finished within the grace."""
    try:
        if await life.unless_stopped(team.start()):
            served = team.serves() | {"metrics": metrics, "workers": config.workers.count}
            life.serving(**served)
            await life.unless_stopped(team.watch())
        life.draining(workers=config.workers.count)
    finally:
        is_clean = await team.drain(life.hurry)
    return is_clean


def _share(config: ServerConfig, addresses: tuple[str, ...]) -> ServerConfig:
    """Give the configuration of a worker: the exact addresses, and its share of the cores."""
    workers, cores = config.workers.count, len(os.sched_getaffinity(0))
    if workers > cores:
        event(_LOG, logging.WARNING, "more workers than cores", workers=workers, cores=cores)
    return dataclasses.replace(
        config,
        transport=dataclasses.replace(config.transport, listen=addresses),
        engine=dataclasses.replace(config.engine, threads=threads_per_worker(config.engine.threads, workers, cores)),
    )


def _variables(threads: int) -> dict[str, str]:
    """Give a worker's environment: ours without samplerd's variables, which the private file replaces."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}
    return variables | thread_variables(threads, variables)


def _export(exporter: Exporter, listen: str) -> str:
    """Begin to serve /metrics; returns where."""
    if not listen:
        return "off"
    try:
        port = exporter.start()
    except OSError as error:
        raise PortError(f"cannot listen on {listen} for /metrics: {error.strerror}") from error
    return f"{listen.rpartition(':')[0]}:{port}"
