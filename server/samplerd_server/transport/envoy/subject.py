"""The subject of a certificate as text, and the common name in it. Source: RFC 4514, sections 2 and 3."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from samplerd_server.transport.envoy.done_callbacks import DoneCallbacks

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CertifiedScope", "common_name", "subject_of"]

_PART = re.compile(r"(?P<kind>[A-Za-z0-9.]+)=(?P<value>(?:\\.|[^,+\\])*)(?:[,+]|$)", re.DOTALL)
_ESCAPED = re.compile(r"\\([^0-9A-Fa-f]|[0-9A-Fa-f]{2})", re.DOTALL)


def common_name(subject: str) -> str:
    """Find the common name in a subject; "" = there is none, or the text is no subject.

    Of several common names the first of the certificate is taken, as grpcio does; the text begins with the last.
    """
    at, found = 0, ""
    while at < len(subject):
        part = _PART.match(subject, at)
        if part is None:
            return ""
        if part["kind"].upper() in {"CN", "2.5.4.3"}:
            found = _ESCAPED.sub(_unescape, part["value"])
        at = part.end()
    return found


def _unescape(escape: re.Match[str]) -> str:
    text = escape[1]
    return text if len(text) == 1 else chr(int(text, 16))


def subject_of(certificate: dict[str, object] | None) -> str:
    """Write the common name of a certificate, as `ssl` gives it, as a subject; "" = there is none."""
    subject = (certificate or {}).get("subject", ())
    assert isinstance(subject, tuple)
    for name in subject:
        for kind, value in name:
            if kind == "commonName":
                return "CN=" + re.sub(r'([,+"\\<>;=#])', r"\\\1", value)
    return ""


class CertifiedScope(DoneCallbacks):
    """The part of a servicer context that knows the client's certificate."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Mapping[str, Any]) -> None:
        super().__init__()
        self._scope = scope

    def auth_context(self) -> dict[str, list[bytes]]:
        """Give what is known of the client's certificate, as grpcio names it: ``x509_common_name``."""
        tls: Mapping[str, Any] = (self._scope.get("extensions") or {}).get("tls") or {}
        name = common_name(tls.get("client_cert_name") or "")
        return {"x509_common_name": [name.encode()]} if name else {}
