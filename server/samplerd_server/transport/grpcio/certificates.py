"""The server's certificates for grpcio, read again when their files change.

grpcio asks for them before each handshake, on a thread of its own.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from samplerd_server.config import ConfigError
from samplerd_server.config.credentials import TlsFiles, read_tls

if TYPE_CHECKING:
    from samplerd_server.config import SecurityConfig

__all__ = ["Certificates"]

_LOG = logging.getLogger("samplerd.transport")


class Certificates:
    """The certificates of one server."""

    def __init__(self, config: SecurityConfig) -> None:
        self._config = config

    def credentials(self) -> grpc.ServerCredentials | None:
        """Give credentials for one port, renewed when the files change; None = plain text.

        Raises:
            ConfigError: a file cannot be used.

        """
        files = read_tls(self._config)
        if files is None:
            return None
        return grpc.dynamic_ssl_server_credentials(
            _configuration(files),
            _FileWatcher(self._config, files).refresh,  # type: ignore[arg-type]  # grpcio accepts None: nothing has changed
            require_client_authentication=files.client_ca is not None,
        )


class _FileWatcher:
    """Gives one port its new certificates; each port has a watcher of its own."""

    def __init__(self, config: SecurityConfig, files: TlsFiles) -> None:
        self._config = config
        self._files = files
        self._seen: tuple[object, ...] = ()
        """Inode, time and size of each file when they were last read, whether or not they were usable."""

    def _stat(self) -> tuple[object, ...]:
        paths = (self._config.certificate, self._config.key, self._config.client_ca)
        stats = (Path(path).stat() for path in paths if path)
        return tuple((file.st_ino, file.st_mtime_ns, file.st_size) for file in stats)

    def refresh(self) -> grpc.ServerCertificateConfiguration | None:
        """Give the new certificates; None = the files have not changed or are unusable: the old ones stay."""
        try:
            stat = self._stat()
            if stat == self._seen:
                return None
            self._seen = stat
            files = read_tls(self._config)
        except (ConfigError, OSError) as error:
            _LOG.warning("the new certificate cannot be used, the old one stays: %s", error)
            return None
        if files is None or files == self._files:
            return None
        self._files = files
        return _configuration(files)


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(files.key, files.certificate)], root_certificates=files.client_ca
    )
