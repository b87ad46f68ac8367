"""The certificates, keys and tokens that the settings of [security] name: read and checked before the server starts.

Rule 1: no key and no token ever reaches a log or a message.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.config import ConfigError

if TYPE_CHECKING:
    from samplerd_server.config import SecurityConfig

__all__ = ["TlsFiles", "read_tls", "read_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The server's certificate as PEM text."""

    certificate: bytes
    """The certificate chain, beginning with the server's own."""
    key: bytes = field(repr=False)
    client_ca: bytes | None
    """The certificate authorities of clients; None = clients need no certificate."""


def read_tls(config: SecurityConfig) -> TlsFiles | None:
    """Read and check the certificates; None = plain text.

    Raises:
        ConfigError: a file cannot be read or is not PEM, or the key does not belong to the certificate.

    """
    if not config.certificate:
        return None
    files = TlsFiles(
        certificate=_read("--tls-cert", config.certificate),
        key=_read("--tls-key", config.key),
        client_ca=_read("--tls-client-ca", config.client_ca) if config.client_ca else None,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password an encrypted key would be asked for on the terminal.
        context.load_cert_chain(config.certificate, config.key, password="")
    except ssl.SSLError as error:
        pair = f"--tls-cert {config.certificate} with --tls-key {config.key}"
        raise ConfigError(f"{pair}: no PEM certificate with its unencrypted key ({_name(error)})") from error
    if config.client_ca:
        try:
            context.load_verify_locations(config.client_ca)
        except ssl.SSLError as error:
            raise ConfigError(f"--tls-client-ca {config.client_ca}: no PEM certificates ({_name(error)})") from error
    return files


def read_tokens(path: str) -> tuple[bytes, ...]:
    """Read a file of tokens, one per line; an empty path gives none.

    Raises:
        ConfigError: the file cannot be read, holds no token, or holds a token that no header can carry.

    """
    if not path:
        return ()
    tokens = tuple(line.strip() for line in _read("--token-file", path).splitlines() if line.strip())
    if not tokens:
        raise ConfigError(f"--token-file {path}: no token in it")
    for number, token in enumerate(tokens, 1):
        if not all(0x21 <= byte <= 0x7E for byte in token):
            raise ConfigError(
                f"--token-file {path}: token {number} has a space or another byte that a header cannot carry"
            )
    return tokens


def _read(flag: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{flag} {path}: {error.strerror}") from error


def _name(error: ssl.SSLError) -> str:
    return (error.reason or "unreadable").replace("_", " ").lower()
