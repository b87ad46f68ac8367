"""Makes connections: the target, the credentials and the limits.

Rule 1: a token is sent only where nobody can read it (TLS, a Unix socket, the loopback interface), unless the caller
insists. Rule 2: gRPC's own retries are off; `retry` makes them.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from samplerd import __version__
from samplerd_client.process_fork import begin_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "DEFAULT_MAX_MESSAGE_BYTES",
    "DEFAULT_PING_TIMEOUT_S",
    "DISTRIBUTION_KEY",
    "ChannelConfig",
    "TlsConfig",
    "is_local",
    "joint_target",
    "open_channel",
]

DEFAULT_MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""Room for 16 million samples with three kinds of log-probabilities; gRPC's own default holds one million samples."""

DEFAULT_PING_TIMEOUT_S = 10.0
"""The time in which deploy/envoy expects answers too: a busy server answers pings within milliseconds, as its transport
does so without Python."""

DISTRIBUTION_KEY = "x-samplerd-distribution"
"""Metadata key with the name of the uploaded distribution that a call is about: a proxy can choose the server by it."""

_BALANCED = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": "samplerd.v1.SamplerService"},
    }
)
"""gRPC's service config: calls go to the servers in turn, and a server that is starting or draining gets none."""

_SHORTEST_PING_TIMEOUT_S = 2.0
"""gRPC sends at most one ping a second."""

_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")
_CLIENT_KEY = "x-samplerd-client"
_OWN_KEYS = frozenset({"authorization", DISTRIBUTION_KEY, _CLIENT_KEY})


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """The certificates of a TLS connection: PEM text, or paths of files that hold it."""

    ca: bytes | Path | None = None
    """Certificates of the authorities that are trusted to sign the server's. None = those that gRPC ships with."""
    certificate: bytes | Path | None = None
    """This client's certificate chain, for servers that require one."""
    key: bytes | Path | None = field(default=None, repr=False)
    """The private key of that certificate."""
    server_name: str | None = None
    """The name to expect in the server's certificate, if it differs from the target's."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate needs its key, and a key its certificate")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return gRPC's credentials; OSError when a file cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca), private_key=_read(self.key), certificate_chain=_read(self.certificate)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """The settings of a connection."""

    target: str | Sequence[str]
    """``host:port``, ``unix:/path``, or any other name gRPC resolves; or several servers' addresses."""
    balance: bool | None = None
    """Send calls in turn to every healthy address of the target. None = only when several targets are given."""
    connections: int = 1
    """Connections that the calls take turns on, each to every address that is in use."""
    extra_metadata: Sequence[tuple[str, str]] = ()
    """Metadata of the caller's own, for every call."""
    tls: TlsConfig | None = None
    token: str | None = field(default=None, repr=False)
    """Token that calls carry as ``authorization: Bearer``."""
    allow_plaintext_token: bool = False
    """Send the token even over an unencrypted network."""
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    """Largest reply that is accepted, in bytes. The server bounds requests."""
    ping_timeout_s: float = DEFAULT_PING_TIMEOUT_S
    """Seconds in which a server must answer a ping, or else its connection is closed; at least 2.

    While a call or a stream is open and nothing comes, a ping is sent after half of it. The answer waits behind what is
    being sent: give more time where rows of megabytes go over a slow link.
    """
    name: str = field(default_factory=lambda: secrets.token_hex(8), compare=False, repr=False)
    """What tells this client apart on a Unix socket."""

    def __post_init__(self) -> None:
        if not self.target or not all(self.target):
            raise ValueError("the target is empty; expected host:port or unix:/path")
        joint_target(self.target)  # raises if there is none
        if self.connections < 1:
            raise ValueError(f"connections must be at least 1, got {self.connections}")
        if not _SHORTEST_PING_TIMEOUT_S <= self.ping_timeout_s < math.inf:
            raise ValueError(
                f"ping_timeout_s must be at least {_SHORTEST_PING_TIMEOUT_S:g} s, got {self.ping_timeout_s}"
            )
        for key, _ in self.extra_metadata:
            check_metadata_key(key)
        exposed = self.token is not None and self.tls is None and not is_local(self.target)
        if exposed and not self.allow_plaintext_token:
            text = f"the token would cross the network to {self.target} in plain text"
            raise ValueError(f"{text}; give tls=, or allow_plaintext_token=True")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata that every call carries."""
        own = () if self.token is None else (("authorization", f"Bearer {self.token}"),)
        # A Unix socket gives callers no addresses: this name has the server tell them apart, for fair shares.
        name = ((_CLIENT_KEY, self.name),) if _is_unix(self.target) else ()
        return (*own, *name, *self.extra_metadata)

    @property
    def is_balanced(self) -> bool:
        """Whether calls go to every healthy address in turn."""
        return not isinstance(self.target, str) if self.balance is None else self.balance


def check_metadata_key(key: str) -> None:
    """Check that callers may set the metadata of this key.

    Raises:
        ValueError: they may not.

    """
    if not _METADATA_KEY.fullmatch(key) or key in _OWN_KEYS or key.startswith("grpc-"):
        raise ValueError(f"{key!r} is no key for metadata: a key is lower case, and neither gRPC's nor samplerd's own")


def joint_target(target: str | Sequence[str]) -> str:
    """Return the one name by which gRPC knows these addresses.

    Raises:
        ValueError: they are of several kinds, or names that have to be looked up, of which gRPC takes one at a time.

    """
    if isinstance(target, str):
        return target
    parts = [_kind_and_address(entry) for entry in target]
    kinds = {kind for kind, _ in parts}
    if len(kinds) != 1 or "" in kinds:
        text = "several targets must all be IPv4 addresses, all IPv6 addresses, or all Unix sockets"
        raise ValueError(
            f"{text}, got {', '.join(target)}; a name with several addresses is one target, with balance=True"
        )
    return f"{kinds.pop()}:{','.join(address for _, address in parts)}"


def _kind_and_address(target: str) -> tuple[str, str]:
    kind, _, rest = target.partition(":")
    if kind in {"unix", "ipv4", "ipv6"}:
        return kind, rest.removeprefix("//") if kind == "unix" else rest
    host = target.rpartition(":")[0].strip("[]")
    try:
        return f"ipv{ipaddress.ip_address(host).version}", target
    except ValueError:
        return "", target


def _is_unix(target: str | Sequence[str]) -> bool:
    first = target if isinstance(target, str) else target[0]
    return first.startswith(("unix:", "unix-abstract:"))


def is_local(target: str | Sequence[str]) -> bool:
    """Tell whether the target, or every one of several, is a Unix socket or on the loopback interface."""
    if not isinstance(target, str):
        return all(map(is_local, target))
    scheme, _, addresses = target.partition(":")
    if scheme in {"ipv4", "ipv6"} and "," in addresses:
        return all(map(is_local, addresses.split(",")))
    if scheme == "dns":  # dns:///host:port, dns:host:port; a name server of its own choice may say anything
        return not re.match("//[^/]", addresses) and is_local(addresses.removeprefix("///"))
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host = target.rpartition(":")[0].removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_channel(config: ChannelConfig) -> grpc.aio.Channel:
    """Return a channel; it connects at the first call. To be called on the event loop that will use it."""
    begin_grpc()
    options: list[tuple[str, int | str]] = [
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.primary_user_agent", f"samplerd-python/{__version__}"),
        # A restarted server is found again within a second, not within gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        *_pings(config.ping_timeout_s),
    ]
    if is_local(config.target):
        # A proxy that the environment names for the world outside cannot reach this machine's own addresses.
        options.append(("grpc.enable_http_proxy", 0))
    if config.connections > 1:
        # Without it all channels of a process to one address share a connection.
        options.append(("grpc.use_local_subchannel_pool", 1))
    if config.is_balanced:
        options.append(("grpc.service_config", _BALANCED))
    target = joint_target(config.target)
    if config.tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    if config.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", config.tls.server_name))
    return grpc.aio.secure_channel(target, config.tls.credentials(), options=options)


def _pings(timeout_s: float) -> tuple[tuple[str, int], ...]:
    """Give the options by which calls leave a server that is frozen: its connection stays open, and nothing comes."""
    timeout_ms = round(timeout_s * 1e3)
    return (
        # Sent only while a call or a stream is open, whether or not that sends anything. A samplerd takes two a second.
        ("grpc.keepalive_time_ms", timeout_ms // 2),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_timeout_ms", timeout_ms),
        # A ping has a time of its own, which is a minute by default, and it is this that counts.
        ("grpc.http2.ping_timeout_ms", timeout_ms),
    )


def _read(source: bytes | Path | None) -> bytes | None:
    return source.read_bytes() if isinstance(source, Path) else source
