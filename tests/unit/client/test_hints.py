"""What is said when no server answers: TLS on one side only, a proxy, an authority of one's own."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from samplerd_client.samplerctl import environment
from samplerd_client.samplerctl.arguments import build_parser
from samplerd_client.samplerctl.hints import diagnosis
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def said(server: str, *flags: str) -> str:
    return diagnosis(build_parser().parse_args(["info", "--server", server, *flags]), "refused")


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that answers one connection."""

    def run() -> None:
        connection, _ = listener.accept()
        with connection:
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("wants_client_certificate", [False, True])
def test_a_server_with_tls_is_recognised(tmp_path: Path, wants_client_certificate: bool) -> None:
    authority = Authority(tmp_path, "authority")
    pair = authority.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if wants_client_certificate:
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_REQUIRED

    def answer(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except (ssl.SSLError, ConnectionError):
            assert wants_client_certificate

    with serving(answer) as server:
        assert said(server) == f"{server} speaks TLS: try --tls"
    if not wants_client_certificate:
        with serving(lambda connection: None) as server:
            assert said(server, "--tls").startswith(f"no samplerd answers at {server}")


def test_a_server_with_tls_and_an_authority_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samplerd_client.samplerctl.hints._speaks_plain_http2", lambda _: False)
    monkeypatch.setattr("samplerd_client.samplerctl.hints._speaks_tls", lambda _: True)
    text = "if an authority of your own signs its certificate, name that with --tls-ca"
    assert said("127.0.0.1:1", "--tls") == f"no samplerd answers at 127.0.0.1:1: refused; {text}"
    assert said("127.0.0.1:1", "--tls", "--tls-ca", "f") == "no samplerd answers at 127.0.0.1:1: refused"


def test_a_server_without_tls_is_recognised() -> None:
    def answer(connection: socket.socket) -> None:
        assert connection.recv(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        connection.sendall(b"\0\0\0\x04\0" + bytes(4))

    with serving(answer) as server:
        assert said(server, "--tls") == f"{server} speaks no TLS: try it without --tls"


@pytest.mark.parametrize("flags", [[], ["--tls"]])
def test_something_else_is_left_alone(flags: list[str]) -> None:
    with serving(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")) as server:
        assert said(server, *flags) == f"no samplerd answers at {server}: refused"


def test_unix_sockets_and_names_of_grpc_are_not_probed() -> None:
    for server in ("unix:/missing", "dns:///a.example:1"):
        assert said(server) == f"no samplerd answers at {server}: refused"


def test_a_proxy_is_named_where_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert environment.proxy() == "http_proxy=http://proxy.example:3128"
    text = "gRPC goes through http_proxy=http://proxy.example:3128, unless no_proxy=host.invalid is set"
    assert said("host.invalid:1") == f"no samplerd answers at host.invalid:1: refused; {text}"
    assert said("127.0.0.1:1") == "no samplerd answers at 127.0.0.1:1: refused"
