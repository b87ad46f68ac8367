"""The daemon's entry point: ``samplerd`` or ``python -m samplerd_server``."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.config import DOOR, ENGINE, WORKER, ConfigError
from samplerd_server.config.credentials import check_security
from samplerd_server.config.environment import silence_forks
from samplerd_server.config.flags import parse
from samplerd_server.config.sources import render
from samplerd_server.process.extras import complaint_of_missing_packages, without_missing_traces
from samplerd_server.process.lifecycle import Lifecycle, leave, tell
from samplerd_server.process.log import set_up
from samplerd_server.process.memory import share_one_heap
from samplerd_server.process.scheduling import let_others_finish
from samplerd_server.process.standard_streams import open_standard_streams

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from samplerd_server.config import ServerConfig
    from samplerd_server.transport.grpcio.starting import StartingServer

__all__ = ["main"]

_LOG = logging.getLogger("samplerd")
_MODULES = {
    WORKER: "samplerd_server.app.serve",
    DOOR: "samplerd_server.app.serve_door",
    ENGINE: "samplerd_server.app.engine_app",
}
"""What serves in a process of each role."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit code.

    It is 0 after a drain, 3 if the device or the event loop has stalled (process/watchdog.py), and 2 for a bad
    configuration, an address in use, or packages that are not installed.
    """
    open_standard_streams()
    share_one_heap()
    try:
        command = parse(argv)
    except ConfigError as error:
        return _fail(error)
    config, untraced = without_missing_traces(command.config, command.offered_by)
    warnings = [*command.warnings, *untraced]
    if command.check_only:
        try:
            check_security(config.security)
        except ConfigError as error:
            return _fail(error)
        _complain(*warnings)
        sys.stdout.write(render(config))
        return 0
    if (complaint := complaint_of_missing_packages(is_traced=bool(config.tracing.endpoint))) is not None:
        _complain(complaint)
        return 2
    set_up(config.log, config.worker)
    for warning in warnings:
        _LOG.warning(warning)
    return _run(config)


def _run(config: ServerConfig) -> int:
    silence_forks()
    if config.worker is not None and config.worker.role != WORKER:
        let_others_finish()
    # Imported here, because --help and --check-config do not need them.
    from samplerd_server.core.errors import BindError, DeviceError  # noqa: PLC0415

    expected: tuple[type[Exception], ...] = (BindError, ConfigError, DeviceError)
    if config.transport.http_listen and config.worker is None:
        from samplerd_server.transport.http.check import check_http  # noqa: PLC0415

        try:
            check_http(config.transport.http_listen, shares_port=False)
        except expected as error:
            return _fail(error)
    if config.has_several_processes and config.worker is None:
        from samplerd_server.process.workers.supervisor import PortError, WorkersError, serve_workers  # noqa: PLC0415
        from samplerd_server.transport.page.routes import offer_page  # noqa: PLC0415

        expected += (PortError, WorkersError)
        main: Coroutine[None, None, None] = serve_workers(config, partial(_starting, are_held=True), offer_page)
    elif config.transport.transport == "envoy" and not (config.worker and config.worker.role == ENGINE):
        from samplerd_server.transport.envoy.supervisor import EnvoyError, serve_envoy  # noqa: PLC0415

        expected += (EnvoyError,)
        main = serve_envoy(config)
    else:
        main = _serve(config)
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(main)
    except expected as error:
        if config.worker is None:
            return _fail(error)
        # The supervisor reports it, once for all its workers.
        tell(config.worker, "failed", cause=str(error))
        return _exit_code(error)
    return 0


async def _serve(config: ServerConfig) -> None:
    """Serve in this process: listen at once, then import everything else and load the kernels."""
    lifecycle = Lifecycle(config)
    lifecycle.watch()
    # Read first, so that an unusable file is reported at once.
    check_security(config.security)
    from samplerd_server.process.early import listen_for_probes  # noqa: PLC0415  # as in `_run`

    starting = None
    config, exporter, probes = listen_for_probes(config)
    try:
        if config.worker is None:
            starting = _starting(config)
            await starting.start()
            lifecycle.starting(
                version=__version__, listen=",".join(starting.addresses), metrics=config.metrics.listen or "off"
            )
        importing = asyncio.get_running_loop().run_in_executor(
            None, import_module, _MODULES[config.worker.role if config.worker else WORKER]
        )
        if not await lifecycle.unless_stopped(importing):
            lifecycle.stopped(is_clean=True)
            leave()
        await importing.result().serve(config, lifecycle, starting, exporter, probes)
    finally:
        # A start that failed leaves it open, and grpcio complains of a server that outlives its event loop.
        if starting is not None:
            await starting.stop()
        if exporter is not None:
            exporter.stop()


def _starting(config: ServerConfig, *, are_held: bool = False) -> StartingServer:
    from samplerd_server.transport.grpcio.certificates import Certificates  # noqa: PLC0415  # as above
    from samplerd_server.transport.grpcio.starting import StartingServer  # noqa: PLC0415

    return StartingServer(config.transport.listen, Certificates(config.security), are_held=are_held)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Make uvloop's event loop, which serves one and a half times as many empty calls per second, or asyncio's own."""
    from samplerd_server.core.named_thread import helpers  # noqa: PLC0415  # as above

    try:
        import uvloop  # noqa: PLC0415  # optional
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    loop.set_default_executor(helpers())
    return loop


def _fail(error: Exception) -> int:
    _complain(error)
    return _exit_code(error)


def _complain(*lines: object) -> None:
    with suppress(OSError):  # the disk is full: the exit code still tells whoever starts the server
        sys.stderr.writelines(f"samplerd: {line}\n" for line in lines)


def _exit_code(error: Exception) -> int:
    return getattr(error, "exit_code", 2)


if __name__ == "__main__":
    sys.exit(main())
