"""HTTP beside grpcio: what is said where it cannot be served."""

from __future__ import annotations

import dataclasses
import socket
import sys

import pytest

from samplerd_server.config import ConfigError, ServerConfig, TransportConfig
from samplerd_server.core.errors import BindError
from samplerd_server.transport.envoy.intake import Intake
from samplerd_server.transport.http.server import HttpServer
from tests.support.asgi import Client
from tests.support.tools import need_http


def server(listen: str) -> HttpServer:
    return HttpServer(
        dataclasses.replace(ServerConfig(), transport=TransportConfig(http_listen=listen)), (), Intake(1 << 30, None)
    )


async def test_it_is_off_unless_an_address_is_given():
    own = server("")
    await own.start()
    assert own.address == "off"
    await own.stop()


async def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"needs uvicorn: pip install 'samplerd\[http\]'"):
        await server("127.0.0.1:0").start()


async def test_a_taken_address_is_named():
    need_http()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BindError, match=address):
            await server(address).start()
    with pytest.raises(BindError, match=r"no\.such\.host"):
        await server("no.such.host.invalid:1").start()


async def test_it_starts_and_stops_without_a_client():
    need_http()
    own = server("127.0.0.1:0")
    await own.start()
    host, _, port = own.address.rpartition(":")
    socket.create_connection((host, int(port))).close()
    await own.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)))


async def test_a_client_cannot_say_when_its_call_arrived():
    """Only Envoy can; here the header is a client's, and may hold anything."""
    client = Client("/v2/health/live", b"", (b"x-samplerd-arrival", b"soon"))
    client.scope["headers"] = [pair for pair in client.scope["headers"] if pair[0] == b"x-samplerd-arrival"]
    client.close()
    await server("")._answer(client.scope, client.receive, client.send)
    assert client.sent[0]["status"] == 405  # as without it: health is asked for by GET


def test_envoy_serves_it_on_its_own_addresses():
    with pytest.raises(ConfigError, match="--http-listen"):
        ServerConfig(transport=TransportConfig(transport="envoy", http_listen="127.0.0.1:0"))
