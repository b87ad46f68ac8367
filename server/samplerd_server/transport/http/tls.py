"""TLS for HTTP: the certificates of gRPC, looked at again before each handshake."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.config import ConfigError
from samplerd_server.config.credentials import read_tls

if TYPE_CHECKING:
    from samplerd_server.config import SecurityConfig

__all__ = ["server_context"]

_LOG = logging.getLogger("samplerd.transport")


def server_context(config: SecurityConfig) -> ssl.SSLContext | None:
    """Give the context of a server, which renews itself when the files change; None = plain text.

    Raises:
        ConfigError: a file cannot be used.

    """
    if read_tls(config) is None:
        return None
    return _Renewal(config).outer


class _Renewal:
    """Gives each handshake the newest certificates that can be used."""

    def __init__(self, config: SecurityConfig) -> None:
        self._config = config
        self._seen = self._stat()
        """Inode, time and size of each file when they were last read, whether or not they were usable."""
        self._newest = _context(config)
        self.outer = _context(config)
        """The context of the listening socket."""
        self.outer.sni_callback = self._renew  # called in every handshake, with or without a name

    def _stat(self) -> tuple[object, ...]:
        paths = (self._config.certificate, self._config.key, self._config.client_ca)
        stats = (Path(path).stat() for path in paths if path)
        return tuple((file.st_ino, file.st_mtime_ns, file.st_size) for file in stats)

    def _renew(self, connection: ssl.SSLObject, _name: str | None, _context_of_it: ssl.SSLContext) -> None:
        try:
            stat = self._stat()
            if stat != self._seen:
                self._seen = stat
                read_tls(self._config)
                self._newest = _context(self._config)
        except (ConfigError, OSError) as error:
            _LOG.warning("the new certificate cannot be used for HTTP, the old one stays: %s", error)
        connection.context = self._newest


def _context(config: SecurityConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(config.certificate, config.key, password="")
    if config.client_ca:
        context.load_verify_locations(config.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
