"""Serve as a door: connect to the engine, and run. Neither torch nor the kernels' compiler is imported."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from samplerd_server.app.app import App
from samplerd_server.app.run import run
from samplerd_server.process.lifecycle import leave
from samplerd_server.transport.doors.arena import Arena, arena_bytes
from samplerd_server.transport.doors.link import Link

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig
    from samplerd_server.process.lifecycle import Lifecycle

__all__ = ["connect", "serve"]


async def connect(config: ServerConfig) -> Link:
    """Connect to the engine of this door.

    Raises:
        OSError: the system has no room for the memory that they share.

    """
    assert config.worker is not None, "a door without a supervisor. This is a bug."
    size = arena_bytes(config.admission.queue_bytes, config.transport.max_message_bytes)
    link = Link(config.worker.engine_socket, Arena(size), asyncio.get_running_loop())
    await link.connect()
    return link


async def serve(config: ServerConfig, lifecycle: Lifecycle, *_: object) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        BindError: an address cannot be listened on.
        ConfigError: a certificate, key or token cannot be used.

    """
    loop = asyncio.get_running_loop()
    connecting = loop.create_task(connect(config))
    if not await lifecycle.unless_stopped(connecting):
        lifecycle.stopped(is_clean=True)
        leave()
    link = connecting.result()
    await run(App(config, link, loop), link.facts, lifecycle)
