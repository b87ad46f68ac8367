"""One daemon a transport for all tests that only need a server, each on TCP and on a Unix socket."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio

from samplerd_client import SamplerClient
from samplerd_server.config import MetricsConfig, ServerConfig, TransportConfig
from samplerd_server.transport.envoy.supervisor import Envoy
from tests.support.certificates import Authority
from tests.support.daemon import Daemon
from tests.support.regions import PREFIX
from tests.support.served import Served, ServedByEnvoy, connect, stub

MAX_MESSAGE_BYTES = 4 << 20


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> None:
    """Compile what an edit made stale before any server starts, so that no test waits for its server to compile."""
    subprocess.run([sys.executable, "-m", "samplerd_server.precompile"], check=True)


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    """End the servers that a test has started and, because it failed, not stopped."""
    others = set(Daemon.running)
    yield
    for left in Daemon.running - others:
        left.kill()


@pytest.fixture(scope="session", params=["grpcio", "envoy"])
def daemon(request, tmp_path_factory):
    flags = (
        *("--max-message-bytes", str(MAX_MESSAGE_BYTES), "--chunk-samples", "1000"),
        *("--max-rows-per-request", "4096", "--queue-rows", "16384"),
        *("--shared-memory-prefix", PREFIX, "--transport", request.param),
    )
    doors = request.config.getoption("--doors")
    unix = tmp_path_factory.mktemp("daemon") / "samplerd.sock" if doors == "0" else None
    with Daemon(*flags, "--doors", doors, unix=unix) as daemon:
        yield daemon


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def envoy() -> Any:
    """One Envoy for all tests that hold a sampler inside it."""
    config = dataclasses.replace(
        ServerConfig(),
        transport=TransportConfig(listen=("127.0.0.1:0",), transport="envoy"),
        metrics=MetricsConfig(listen=""),
    )
    async with Envoy(config, application="tests.support.held_child:application") as envoy:
        yield envoy


@pytest.fixture(params=["grpcio", "envoy"])
def serve(request) -> Any:
    """A server around a held sampler, once for each transport: ``async with serve(admission={"queue_rows": 4})``."""
    if request.param == "grpcio":
        return Served
    return functools.partial(ServedByEnvoy, request.getfixturevalue("envoy"))


@pytest.fixture(params=["tcp", "unix"])
def address(request, daemon) -> str:
    """Where the daemon listens: the test runs once for each."""
    return daemon.address if request.param == "tcp" else daemon.unix_address


@pytest_asyncio.fixture(loop_scope="session")
async def service(address) -> Any:
    """A stub with a connection of its own."""
    async with connect(address) as channel:
        yield stub(channel)


@pytest_asyncio.fixture(loop_scope="session")
async def stream(daemon) -> Any:
    """A stream of drafts."""
    async with SamplerClient(daemon.address, timeout_s=120.0) as client, client.verify_stream() as stream:
        yield stream


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    """Who vouches for servers and clients."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session")
def other(tmp_path_factory) -> Authority:
    """Another one, whom nobody trusts at first."""
    return Authority(tmp_path_factory.mktemp("other"), "other")
