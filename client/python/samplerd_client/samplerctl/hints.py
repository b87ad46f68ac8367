"""Why a server may not have answered: what can be found out from here, in a few words for the error.

Asked only once a call has failed, so a probe may take a moment.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from samplerd_client.channel import is_local
from samplerd_client.samplerctl import environment

if TYPE_CHECKING:
    import argparse

__all__ = ["diagnosis"]

_PROBE_S = 2.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + b"\x04" + bytes(5)
"""How an HTTP/2 client begins: the preface, and settings that change nothing."""
_SETTINGS_FRAME = 4
"""The type, in the fourth byte of a frame, of what an HTTP/2 server begins with."""


def diagnosis(args: argparse.Namespace, cause: str) -> str:
    """Return one line that says why no server answers, and what to try.

    Args:
        args: the arguments of the command.
        cause: what gRPC says.

    """
    target = str(getattr(args, "host", None) or args.server)
    text = f"no samplerd answers at {target}: {cause}"
    if target.startswith(("unix:", "unix-abstract:")) or "/" in target or "," in target:
        return text
    host, _, port = target.rpartition(":")
    address = host.strip("[]"), int(port)
    if args.tls or args.tls_ca or args.tls_cert or args.tls_key or args.tls_server_name:
        if _speaks_plain_http2(address):
            return f"{target} speaks no TLS: try it without --tls"
        if not args.tls_ca and _speaks_tls(address):
            text += "; if an authority of your own signs its certificate, name that with --tls-ca"
    elif _speaks_tls(address):
        return f"{target} speaks TLS: try --tls"
    proxy = environment.proxy()
    if proxy and not is_local(target):
        text += f"; gRPC goes through {proxy}, unless no_proxy={host} is set"
    return text


def _speaks_tls(address: tuple[str, int]) -> bool:
    """Tell whether a handshake goes so far that the server shows that it knows TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent; whose certificate it is does not matter here
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection(address, _PROBE_S) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        # An alert is an answer in TLS, such as that a certificate of the client is required.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _speaks_plain_http2(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, _PROBE_S) as plain:
            plain.settimeout(_PROBE_S)
            plain.sendall(_PREFACE)
            answer = plain.recv(9)
    except OSError:
        return False
    return len(answer) > 3 and answer[3] == _SETTINGS_FRAME
