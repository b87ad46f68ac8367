"""Run a built server: listen, wait for a signal, drain, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.process.lifecycle import leave
from samplerd_server.process.memory import tune_memory

if TYPE_CHECKING:
    from samplerd_server.app.app import App
    from samplerd_server.core.engine_facts import EngineFacts
    from samplerd_server.process.lifecycle import Lifecycle

__all__ = ["run"]


async def run(app: App, facts: EngineFacts, lifecycle: Lifecycle) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        BindError: an address cannot be listened on.

    """
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
            device=facts.device,
            kernel=facts.kernel,
            threads=facts.threads,
            warm_up=f"{facts.warm_up_s:.2f}s",
        )
        await lifecycle.stop.wait()
        app.handlers.leave()
        lifecycle.draining(in_flight=app.core.in_flight)
        await lifecycle.delay()
    finally:
        is_clean = await app.stop()
    lifecycle.stopped(is_clean=is_clean)
    if not app.has_ended:
        leave()
