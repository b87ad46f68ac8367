"""HTTP/1.1 beside grpcio: the ASGI application of the transport ``envoy``, served by uvicorn in the same event loop.

Rule 1: off unless an address is configured, and then behind the same TLS, tokens and limits as gRPC. Rule 2: a call
ends as every other does: the handlers refuse it once they drain, and only then does the address close.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from samplerd_server.core.errors import BindError
from samplerd_server.transport.envoy.asgi import AsgiApp
from samplerd_server.transport.envoy.bootstrap import ARRIVAL_HEADER
from samplerd_server.transport.http.check import check_http

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import grpc

    from samplerd_server.config import ServerConfig
    from samplerd_server.transport.envoy.intake import Intake

    Receive = Callable[[], Awaitable[Mapping[str, Any]]]
    Send = Callable[[Mapping[str, Any]], Awaitable[None]]

__all__ = ["HttpServer"]

_ARRIVAL = ARRIVAL_HEADER.encode()
_KEEP_ALIVE_S = 75
"""How long a connection may be idle unless --max-connection-idle says otherwise."""
_CLOSE_AFTER_S = 1
"""Seconds in which replies that are being sent when the drain has ended may reach their clients."""
_BACKLOG = 1024


class HttpServer:
    """Serves the handlers over HTTP/1.1, if an address for it is configured."""

    def __init__(
        self,
        config: ServerConfig,
        generic: Sequence[grpc.GenericRpcHandler],
        intake: Intake,
        refuse: Callable[[str, BaseException, Any], None] | None = None,
    ) -> None:
        self._config = config
        self._app = AsgiApp(
            generic,
            max_message_bytes=config.transport.max_message_bytes,
            intake=intake,
            refuse=refuse,
            origins=config.envoy.cors_allow_origin,
        )
        self._server: Any = None
        self._socket: socket.socket | None = None
        self.address = "off"
        """The address that it listens on, with the port that the system chose."""

    async def start(self) -> None:
        """Listen and answer.

        Raises:
            BindError: the address cannot be listened on.
            ConfigError: uvicorn is not installed, or a certificate cannot be used.

        """
        listen = self._config.transport.http_listen
        if not listen:
            return
        shares_port = self._config.worker is not None
        check_http(listen, shares_port=shares_port)
        import uvicorn  # noqa: PLC0415  # an optional dependency

        from samplerd_server.transport.http.connection import Connection  # noqa: PLC0415  # it imports uvicorn
        from samplerd_server.transport.http.tls import server_context  # noqa: PLC0415  # rarely needed

        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=round(self._config.transport.max_connection_idle_s) or _KEEP_ALIVE_S,
            timeout_graceful_shutdown=_CLOSE_AFTER_S,
            backlog=_BACKLOG,
        )
        config.load()
        config.ssl = server_context(self._config.security)
        self._socket = _bind(listen, shares_port=shares_port)
        self._server = uvicorn.Server(config)
        # Not `serve`, which takes the signals for itself.
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[self._socket])
        self.address = f"{listen.rpartition(':')[0]}:{self._socket.getsockname()[1]}"

    @property
    def connections(self) -> int:
        """Connections of clients."""
        return 0 if self._server is None else len(self._server.server_state.connections)

    async def stop(self) -> None:
        """Close the address and the connections. The calls must have ended, or have been refused, by now."""
        self._app.close()
        if self._server is not None:
            await self._server.shutdown(sockets=[self._socket])
            self._server = None

    async def _answer(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").partition(b";")[0].strip() in {
            b"application/grpc",
            b"application/grpc+proto",
        }:
            text = b"gRPC needs HTTP/2: call the address of --listen\n"
            told = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
            await send({"type": "http.response.start", "status": 505, "headers": told})
            await send({"type": "http.response.body", "body": text})
            return
        if _ARRIVAL in headers:  # Envoy's word, and a client's claim here
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != _ARRIVAL]}
        await self._app(scope, receive, send)


def _bind(address: str, *, shares_port: bool) -> socket.socket:
    """Bind an address for the event loop to listen on.

    Raises:
        BindError: it is taken, or is none of this machine's.

    """
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        own = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BindError(f"cannot listen on {address} for HTTP: {error.strerror}") from error
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares_port:  # the supervisor of the workers has made sure that no other program has it
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(where)
    except OSError as error:
        own.close()
        raise BindError(f"cannot listen on {address} for HTTP: {error.strerror}") from error
    own.settimeout(0)
    return own
