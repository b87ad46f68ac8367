"""When the server's certificate expires."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from samplerd_server.config.credentials import read_tls
from samplerd_server.config.setting import ConfigError
from samplerd_server.config.watched_file import WatchedFile

if TYPE_CHECKING:
    from samplerd_server.config import SecurityConfig

__all__ = ["CertificateExpiry", "expiry_of"]

_FIRST = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END ", re.DOTALL)
"""The names that OpenSSL takes for a certificate."""


class CertificateExpiry:
    """The expiry of the certificate that is served: the file's, which the transports read again as this does."""

    def __init__(self, config: SecurityConfig) -> None:
        """Read the certificate, of a configuration that names one.

        Raises:
            ConfigError: a file cannot be used.

        """
        self._config = config
        self._file = WatchedFile(config.certificate, self._read)

    @property
    def timestamp(self) -> float:
        """When it expires, since unix epoch in seconds."""
        return self._file.get()

    def _read(self, _path: str) -> float:
        files = read_tls(self._config)
        assert files is not None, "the expiry of no certificate. This is a bug."
        return expiry_of(files.certificate)


def expiry_of(chain: bytes) -> float:
    """Give when the first certificate of a chain expires, since unix epoch in seconds.

    Args:
        chain: PEM text, of certificates that OpenSSL has accepted.

    Raises:
        ConfigError: the certificate has no end that can be read.

    """
    # Imported here: only servers with TLS need it.
    from pyasn1.codec.der import decoder  # noqa: PLC0415
    from pyasn1.error import PyAsn1Error  # noqa: PLC0415

    first = _FIRST.search(chain)
    try:
        certificate, _ = decoder.decode(base64.b64decode(b"" if first is None else first[1]))
        signed = certificate[0]
        # RFC 5280, 4.1: version, if it is not the first one; serial number; algorithm; issuer; validity: from, until.
        validity = signed[4] if len(signed) > 6 else signed[3]
        return float(validity[1].asDateTime.timestamp())
    except (PyAsn1Error, AttributeError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"--tls-cert: the end of its validity cannot be read ({error})") from error
