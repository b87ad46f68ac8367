"""The transport ``grpcio``: grpc.aio servers on all addresses, and their drain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from samplerd_server.transport.grpcio.listen import bind_port, check_free

if TYPE_CHECKING:
    from samplerd_server.config import TransportConfig
    from samplerd_server.transport.grpcio.certificates import Certificates
    from samplerd_server.transport.grpcio.starting import StartingServer
    from samplerd_server.transport.rpc.handlers import Handlers
    from samplerd_server.transport.rpc.observer import RpcObserver

__all__ = ["GrpcServer"]

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
        starting: StartingServer | None = None,
    ) -> None:
        self._config = config
        self._shares_port = shares_port or starting is not None
        self._starting = starting
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
        listen = self._config.listen if self._starting is None else self._starting.addresses
        for address in listen:
            if not self._shares_port or address.startswith("unix"):
                check_free(address)
        first = self._new_server()
        self.addresses = tuple(bind_port(first, address, self._certificates) for address in listen)
        shared = [address for address in self.addresses if not address.startswith("unix")]
        servers = [first]
        for _ in range(self._config.grpcio_acceptors - 1 if shared else 0):
            server = self._new_server()
            for address in shared:
                bind_port(server, address, self._certificates)
            servers.append(server)
        for server in servers:
            await server.start()
        self._servers = servers
        await self._handlers.set_serving()
        if self._starting is not None:
            await self._starting.stop()

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
