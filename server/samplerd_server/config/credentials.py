"""The certificates, keys and tokens that the settings of [security] name: read and checked before the server starts.

Rule 1: no key and no token ever reaches a log or a message.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from samplerd_server.config import SecurityConfig

__all__ = [
    "ANONYMOUS",
    "EVERYBODY",
    "OTHERS",
    "TlsFiles",
    "Token",
    "check_security",
    "is_identity",
    "read_policy",
    "read_tls",
    "read_tokens",
]

ANONYMOUS = "anonymous"
"""In a policy: a caller without a token and without a certificate."""
EVERYBODY = "*"
"""In a policy: every caller who is somebody."""
OTHERS = "other"
"""In metrics: the identities past the first ones, whose number is bounded."""
_IDENTITY = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_METHOD = re.compile(r"/[A-Za-z0-9_.]+/([A-Za-z0-9_]+|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One accepted token."""

    name: str
    """Who has it; "" = the file does not say."""
    digest: bytes = field(repr=False)
    """Its SHA-256, which is as good as a slow hash for a token of 128 random bits and more, and costs a microsecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The server's certificate as PEM text."""

    certificate: bytes
    """The certificate chain, beginning with the server's own."""
    key: bytes = field(repr=False)
    client_ca: bytes | None
    """The certificate authorities of clients; None = clients need no certificate."""


def check_security(config: SecurityConfig) -> None:
    """Read every file of the settings of [security], to report at once one that cannot be used.

    Raises:
        ConfigError: a certificate, key, token or policy cannot be used.

    """
    read_tls(config)
    read_tokens(config.token_file)
    read_policy(config.policy_file)


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


def read_tokens(path: str) -> tuple[Token, ...]:
    """Read a file of tokens, one per line; an empty path gives none.

    A line is ``NAME:sha256:DIGEST``, where DIGEST is the SHA-256 of the token as 64 hexadecimal digits, or the token
    itself, which then has no name. Empty lines, and lines that begin with ``#``, are left out.

    Raises:
        ConfigError: the file cannot be read, holds no token, or holds a line that is neither.

    """
    if not path:
        return ()
    lines = enumerate(_read("--token-file", path).splitlines(), 1)
    tokens = tuple(
        _token(line.strip(), f"--token-file {path}: line {number}")
        for number, line in lines
        if line.strip() and not line.strip().startswith(b"#")
    )
    if not tokens:
        raise ConfigError(f"--token-file {path}: no token in it")
    return tokens


def _token(line: bytes, where: str) -> Token:
    if not all(0x21 <= byte <= 0x7E for byte in line):
        raise ConfigError(f"{where}: the token has a space or another byte that a header cannot carry")
    name, scheme, digest = line.decode().partition(":sha256:")
    if not scheme:
        return Token(name="", digest=hashlib.sha256(line).digest())
    if not is_identity(name):
        raise ConfigError(f"{where}: a name has 1 to 64 letters, digits, and . _ @ -, and is not {ANONYMOUS} or other")
    if not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{where}: after NAME:sha256: stand the 64 hexadecimal digits of the token's SHA-256")
    return Token(name=name, digest=bytes.fromhex(digest))


def read_policy(path: str) -> Mapping[str, tuple[str, ...]] | None:
    """Read which methods each identity may call; None for an empty path: every method.

    The file is TOML: in the table ``allow``, each identity has a list of ``/SERVICE/METHOD`` and ``/SERVICE/*``.

    Raises:
        ConfigError: the file cannot be read or is not of this form.

    """
    if not path:
        return None
    where = f"--policy-file {path}"
    try:
        content = tomllib.loads(_read("--policy-file", path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: not TOML: {error}") from error
    allow = content.pop("allow", None)
    if content or not isinstance(allow, dict):
        raise ConfigError(f"{where}: expected one table, allow, and nothing else")
    for identity, methods in allow.items():
        if identity not in {EVERYBODY, ANONYMOUS} and not is_identity(identity):
            raise ConfigError(f"{where}: {identity[:80]!r} cannot be the name of an identity")
        if not isinstance(methods, list) or not all(isinstance(own, str) and _METHOD.fullmatch(own) for own in methods):
            raise ConfigError(f"{where}: {identity}: expected a list of /SERVICE/METHOD and /SERVICE/*")
    return {identity: tuple(methods) for identity, methods in allow.items()}


def is_identity(name: str) -> bool:
    """Whether a text can be the name of a caller."""
    return _IDENTITY.fullmatch(name) is not None and name not in {ANONYMOUS, OTHERS}


def _read(flag: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{flag} {path}: {error.strerror}") from error


def _name(error: ssl.SSLError) -> str:
    return (error.reason or "unreadable").replace("_", " ").lower()
