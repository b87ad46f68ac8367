"""Peers of the exporter that connect and then say nothing, or not all of it: they hold no thread for long."""

from __future__ import annotations

import socket

import pytest

from samplerd_server.config import MetricsConfig, ServerConfig
from samplerd_server.metrics.exporter import Exporter, _Handler
from samplerd_server.transport.page.routes import offer_page

WAIT_S = 30.0


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(_Handler, "timeout", 0.5)
    listen = "127.0.0.1:0"
    exporter = Exporter(listen)
    offer_page(exporter, ServerConfig(metrics=MetricsConfig(listen=listen, http_ui=True)), "127.0.0.1:1")
    yield exporter.start()
    exporter.stop()


def answer(port: int, said: bytes) -> bytes:
    """What comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as peer, peer.makefile("rb") as reader:
        peer.sendall(said)
        return reader.read()


@pytest.mark.parametrize("said", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: "])
def test_a_peer_that_says_nothing_more_is_closed(port, said, capsys):
    assert answer(port, said) == b""
    assert capsys.readouterr().err == ""


def test_the_rest_of_a_draw_is_not_waited_for_without_end(port, capsys):
    head = (
        "POST /api/sample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    assert answer(port, head.encode()).startswith(b"HTTP/1.0 408 ")
    assert capsys.readouterr().err == ""


def test_who_has_connected_when_it_stops_is_answered(monkeypatch):
    exporter = Exporter("127.0.0.1:0")
    port = exporter.start()
    shut_down, late = exporter._server.shutdown, []

    def and_connect() -> None:
        shut_down()
        late.append(socket.create_connection(("127.0.0.1", port), WAIT_S))

    monkeypatch.setattr(exporter._server, "shutdown", and_connect)
    exporter.stop()
    with late[0] as peer, peer.makefile("rb") as reader:
        peer.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert reader.readline() == b"HTTP/1.0 200 OK\r\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), WAIT_S)
