"""The transport ``grpcio``: grpc.aio servers on all addresses, and their drain."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from samplerd_server.core.errors import BindError

if TYPE_CHECKING:
    from samplerd_server.config import TransportConfig
    from samplerd_server.transport.grpcio.certificates import Certificates
    from samplerd_server.transport.rpc.handlers import Handlers
    from samplerd_server.transport.rpc.observer import RpcObserver

__all__ = ["GrpcServer", "check_free"]

_QUIET_S = 0.05
"""Seconds without a new call after which clients have noticed that the server drains."""
_QUIET_TURNS = 10
"""Bounds that wait: at most this many times `_QUIET_S`."""
_KILL_AFTER_S = 1.0
"""Seconds in which calls that were cancelled at the end of the drain grace may end."""


class GrpcServer:
    """Serves the handlers on all configured addresses through grpc.aio."""

    def __init__(
        self,
        config: TransportConfig,
        handlers: Handlers,
        observer: RpcObserver,
        *,
        certificates: Certificates,
        shares_port: bool = False,
    ) -> None:
        self._config = config
        self._shares_port = shares_port
        self._certificates = certificates
        self._handlers = handlers
        self._observer = observer
        self._servers: list[grpc.aio.Server] = []
        self.addresses: tuple[str, ...] = ()
        """Addresses that it listens on, with the ports that the system chose."""

    async def start(self) -> None:
        """Listen and answer.

        Raises:
            BindError: an address cannot be listened on.
            ConfigError: a certificate or key cannot be used.

        """
        if not self._shares_port:
            for address in self._config.listen:
                check_free(address)
        first = self._new_server()
        self.addresses = tuple(_bind(first, address, self._certificates) for address in self._config.listen)
        shared = [address for address in self.addresses if not address.startswith("unix")]
        servers = [first]
        for _ in range(self._config.grpcio_acceptors - 1 if shared else 0):
            server = self._new_server()
            for address in shared:
                _bind(server, address, self._certificates)
            servers.append(server)
        for server in servers:
            await server.start()
        self._servers = servers
        await self._handlers.set_serving()

    def _new_server(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=(
                *_lifetimes(self._config),
                ("grpc.max_receive_message_length", self._config.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", self._config.max_concurrent_streams),
                # The servers of this process share a port, and so do workers. `check_free` or the supervisor makes
                # sure that no other program shares it.
                ("grpc.so_reuseport", int(self._shares_port or self._config.grpcio_acceptors > 1)),
                # Only identity: grpcio would inflate a compressed message before it checks its size.
                ("grpc.compression_enabled_algorithms_bitset", 1),
                # Clients that wait between calls send pings to keep their connection alive through load balancers.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.server_handshake_timeout_ms", 10_000),
            )
        )
        server.add_generic_rpc_handlers(tuple(self._handlers.generic))
        return server

    async def drain(self) -> bool:
        """Refuse new calls, finish those in flight; returns whether all finished within the drain grace."""
        if not self._servers:
            return True
        await self._handlers.drain()
        await self._wait_quiet()
        grace = self._config.drain_grace_s
        stopping = [asyncio.ensure_future(server.stop(grace)) for server in self._servers]
        # Server.stop does not wait for handlers that are aborting, so the calls are counted here.
        finishing = asyncio.ensure_future(self._observer.wait_idle())
        done, _ = await asyncio.wait({finishing}, timeout=grace)
        is_clean = bool(done)
        await asyncio.wait([finishing, *stopping], timeout=_KILL_AFTER_S)
        for task in (finishing, *stopping):
            task.cancel()
        return is_clean

    async def _wait_quiet(self) -> None:
        """Wait until no new calls arrive, so that they are refused: once stopped, grpcio ends calls as CANCELLED."""
        for _ in range(_QUIET_TURNS):
            begun = self._observer.begun
            await asyncio.sleep(_QUIET_S)
            if self._observer.begun == begun:
                return


def check_free(address: str) -> None:
    """Check that no other program listens on an address: grpcio and Envoy would share it or take it over.

    Raises:
        BindError: a program does, or the address cannot be used.

    """
    if address.startswith("unix-abstract:"):
        return
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if _is_served(path):
            raise BindError(f"cannot listen on {address}: is the path taken?")
        if not os.access(Path(path).absolute().parent, os.W_OK):
            raise BindError(f"cannot listen on {address}: is the path writable?")
        return
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, name in found:
            with socket.socket(family, kind, protocol) as probe:
                # Old connections of a server that has ended do not count; a listening socket does, whatever its
                # options.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(name)
    except OSError as error:
        hint = "is the port taken?" if error.errno == errno.EADDRINUSE else error.strerror
        raise BindError(f"cannot listen on {address}: {hint}") from error


def _bind(server: grpc.aio.Server, address: str, certificates: Certificates) -> str:
    """Listen on an address; returns it with the port that the system chose."""
    is_unix = address.startswith("unix")
    # No TLS on a Unix socket: file permissions decide who may connect, and no network lies between.
    credentials = None if is_unix else certificates.credentials()
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        port = 0
        cause: Exception | None = error
    else:
        cause = None
    if port == 0:
        hint = "is the path writable?" if is_unix else "is the port taken?"
        raise BindError(f"cannot listen on {address}: {hint}") from cause
    return address if is_unix else f"{address.rpartition(':')[0]}:{port}"


def _lifetimes(config: TransportConfig) -> list[tuple[str, int]]:
    """Give the options for the idle time, age and keepalive of connections."""
    options: list[tuple[str, int]] = []
    if config.max_connection_idle_s:
        options.append(("grpc.max_connection_idle_ms", _ms(config.max_connection_idle_s)))
    if config.max_connection_age_s:
        options.append(("grpc.max_connection_age_ms", _ms(config.max_connection_age_s)))
    if config.keepalive_s:
        options.append(("grpc.keepalive_time_ms", _ms(config.keepalive_s)))
        options.append(("grpc.keepalive_timeout_ms", 20_000))
        options.append(("grpc.keepalive_permit_without_calls", 1))
    return options


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1e3))


def _is_served(path: str) -> bool:
    """Whether a program listens on a Unix socket; grpcio would silently replace it."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
