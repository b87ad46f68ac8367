"""Authorities and the certificates that they vouch for, made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import need

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._openssl = need("openssl")
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}-key.pem"
        self._run("req", "-x509", *_CURVE, "-subj", f"/CN={name}", "-out", self.certificate, "-keyout", self._key)

    def sign(self, name: str) -> Pair:
        """A certificate for a name, which as a server's is one of localhost too."""
        certificate, key, request = (self._folder / f"{name}{end}" for end in (".pem", "-key.pem", ".csr"))
        names = f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1"
        self._run("req", *_CURVE, "-subj", f"/CN={name}", "-addext", names, "-out", request, "-keyout", key)
        self._run(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-days", "2", "-copy_extensions", "copy", "-out", certificate),
        )
        return Pair(certificate, key)

    def _run(self, *arguments: object) -> None:
        subprocess.run([self._openssl, *map(str, arguments)], check=True, capture_output=True)


def tls_flags(pair: Pair) -> tuple[str, ...]:
    """What a server with this certificate is started with."""
    return "--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)
