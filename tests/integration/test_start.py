"""Starting: what cannot be listened on or read is said on standard error, with a non-zero exit."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.daemon import KERNEL, Daemon

TRANSPORTS = pytest.mark.parametrize("transport", ["grpcio", "envoy"])


def run(*flags: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code and standard error of a daemon that ends by itself."""
    defaults = ("--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", f"--kernel={KERNEL}")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "samplerd_server", *defaults, *flags],
        capture_output=True,
        text=True,
        timeout=120,
        env=env,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def last_line(text: str) -> str:
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


@TRANSPORTS
def test_a_taken_port_is_named(taken, transport):
    code, text = run("--transport", transport, f"--listen=127.0.0.1:{taken}")
    assert code == 2
    assert last_line(text) == f"samplerd: cannot listen on 127.0.0.1:{taken}: is the port taken?"


@TRANSPORTS
def test_a_port_that_another_samplerd_serves_is_taken_too(daemon, transport):
    code, text = run("--transport", transport, f"--listen={daemon.address}")
    assert code == 2
    assert f"cannot listen on {daemon.address}" in last_line(text)


@TRANSPORTS
def test_a_taken_metrics_port_is_named(taken, transport):
    code, text = run("--transport", transport, f"--metrics-listen=127.0.0.1:{taken}")
    assert code == 2
    assert last_line(text) == f"samplerd: cannot listen on 127.0.0.1:{taken} for /metrics: Address already in use"


@TRANSPORTS
def test_a_socket_in_a_missing_folder_is_named(tmp_path, transport):
    code, text = run("--transport", transport, f"--listen=unix:{tmp_path}/missing/s.sock")
    assert code == 2
    assert last_line(text) == f"samplerd: cannot listen on unix:{tmp_path}/missing/s.sock: is the path writable?"


@TRANSPORTS
def test_a_unix_socket_that_another_samplerd_serves_is_not_taken_away(daemon, transport):
    code, text = run("--transport", transport, f"--listen={daemon.unix_address}")
    assert code == 2
    assert last_line(text) == f"samplerd: cannot listen on {daemon.unix_address}: is the path taken?"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(daemon.unix_address.removeprefix("unix:"))


@TRANSPORTS
def test_a_socket_that_a_dead_server_left_behind_is_taken_over(tmp_path, transport):
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with Daemon("--transport", transport, unix=path) as daemon, socket.socket(socket.AF_UNIX) as probe:
        assert daemon.unix_address == f"unix:{path}"
        probe.connect(str(path))


class Watched(Daemon):
    """Asks for the health once the log says that the server starts, before it serves."""

    def wait_event(self, message: str, timeout_s: float = 30.0) -> dict[str, Any]:
        if message == "serving":
            self.starting = super().wait_event("starting", timeout_s)
            self.channel = grpc.insecure_channel(self.starting["listen"])
            self.before = self.health()
        return super().wait_event(message, timeout_s)

    def health(self) -> int:
        """The status of the server."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True).status


@pytest.mark.parametrize("flags", [(), ("--transport=envoy",), ("--workers=2",)], ids=["grpcio", "envoy", "workers"])
def test_health_is_answered_from_the_start(flags):
    with Watched(*flags) as daemon:
        assert daemon.before == health_pb2.HealthCheckResponse.NOT_SERVING
        assert daemon.starting["listen"] == daemon.address
        assert not daemon.address.endswith(":0")
        with daemon.channel, grpc.insecure_channel(daemon.address) as other:
            daemon.channel = other
            assert daemon.health() == health_pb2.HealthCheckResponse.SERVING
        assert not [line for line in daemon.log if not line.startswith("{")]


def test_a_start_of_envoy_that_takes_too_long_is_ended():
    code, text = run("--transport=envoy", "--envoy-start-timeout=0")
    assert code == 2
    assert last_line(text) == "samplerd: envoy did not start within 0 s (--envoy-start-timeout)"


def test_a_device_that_is_not_there_is_named():
    code, text = run("--device=cuda:99", "--kernel=torch")
    assert code == 2
    assert "samplerd: device cuda:99 is not there" in last_line(text)


def test_a_bad_configuration_is_named_before_anything_starts():
    code, text = run("--max-batch-rows=none")
    assert code == 2
    assert text.startswith("samplerd: --max-batch-rows: 'none' is not allowed: expected an integer")
