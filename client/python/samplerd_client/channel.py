"""Makes connections: the target, the credentials and the limits.

Rule 1: a token is sent only where nobody can read it (TLS, a Unix socket, the loopback interface), unless the caller
insists. Rule 2: gRPC's own retries are off; `retry` makes them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from samplerd import __version__

__all__ = ["DEFAULT_MAX_MESSAGE_BYTES", "ChannelConfig", "TlsConfig", "is_local", "open_channel"]

DEFAULT_MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""Room for 16 million samples with three kinds of log-probabilities; gRPC's own default holds one million samples."""


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

    target: str
    """``host:port``, ``unix:/path``, or any other name gRPC resolves."""
    tls: TlsConfig | None = None
    token: str | None = field(default=None, repr=False)
    """Token that calls carry as ``authorization: Bearer``."""
    allow_plaintext_token: bool = False
    """Send the token even over an unencrypted network."""
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    """Largest reply that is accepted, in bytes. The server bounds requests."""

    def __post_init__(self) -> None:
        if not self.target:
            raise ValueError("the target is empty; expected host:port or unix:/path")
        exposed = self.token is not None and self.tls is None and not is_local(self.target)
        if exposed and not self.allow_plaintext_token:
            text = f"the token would cross the network to {self.target} in plain text"
            raise ValueError(f"{text}; give tls=, or allow_plaintext_token=True")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata that every call carries."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


def is_local(target: str) -> bool:
    """Tell whether the target is a Unix socket or the loopback interface."""
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
    options: list[tuple[str, int | str]] = [
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.primary_user_agent", f"samplerd-python/{__version__}"),
        # A restarted server is found again within a second, not within gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Five minutes is the shortest ping interval that a server with default settings tolerates.
        ("grpc.keepalive_time_ms", 300_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
    if is_local(config.target):
        # A proxy that the environment names for the world outside cannot reach this machine's own addresses.
        options.append(("grpc.enable_http_proxy", 0))
    if config.tls is None:
        return grpc.aio.insecure_channel(config.target, options=options)
    if config.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", config.tls.server_name))
    return grpc.aio.secure_channel(config.target, config.tls.credentials(), options=options)


def _read(source: bytes | Path | None) -> bytes | None:
    return source.read_bytes() if isinstance(source, Path) else source
