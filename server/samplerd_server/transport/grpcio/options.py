"""The options of a server of grpcio, as far as they are not its defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.transport.grpcio.listen import PINGS

if TYPE_CHECKING:
    from samplerd_server.config import TransportConfig

__all__ = ["server_options"]

_PING_TIMEOUT_MS = 20_000
"""Milliseconds in which a ping must be answered."""
_MAX_PENDING_CALLS = 1 << 14
"""Most calls of one acceptor that wait for the event loop; grpcio refuses further ones. They are the calls of sixteen
connections at the default `max_concurrent_streams`, or a flood of calls that are cancelled as soon as they begin."""


def server_options(config: TransportConfig, *, shares_port: bool) -> tuple[tuple[str, int], ...]:
    """Give the options of a server; shares_port: whether it listens on a port on which others of its kind listen."""
    return (
        *_lifetimes(config),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        # The servers of this process share a port, and so do workers. `check_free` or the supervisor makes
        # sure that no other program shares it.
        ("grpc.so_reuseport", int(shares_port)),
        *PINGS,
        ("grpc.server_handshake_timeout_ms", 10_000),
        # A stream counts against the bound until its reply is sent, as clients count it. By default it counts
        # until grpcio has freed it, so that a client which keeps to the bound is refused (RST_STREAM).
        ("grpc.http.overload_protection", 0),
        # By default calls that wait for the event loop are refused at random from 1,000 on, as CANCELLED.
        ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
        # grpcio counts the calls that it takes in.
        ("grpc.enable_channelz", 1),
    )


def _lifetimes(config: TransportConfig) -> list[tuple[str, int]]:
    """Give the options for the idle time, age and keepalive of connections."""
    options: list[tuple[str, int]] = []
    if config.max_connection_idle_s:
        options.append(("grpc.max_connection_idle_ms", _ms(config.max_connection_idle_s)))
    if config.max_connection_age_s:
        options.append(("grpc.max_connection_age_ms", _ms(config.max_connection_age_s)))
    if config.keepalive_s:
        options.append(("grpc.keepalive_time_ms", _ms(config.keepalive_s)))
        options.append(("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS))
        # A ping that is not answered has a time of its own, which is a minute by default, and it is this that counts.
        options.append(("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS))
    return options


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1e3))
