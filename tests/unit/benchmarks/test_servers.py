"""Servers as child processes: found ready, read, stopped by their own pid, and loud when they fail."""

import sys
from pathlib import Path

import grpc
import pytest

from benchmarks.check import checked_empty
from benchmarks.load import SAMPLE_PATH, STREAM_PATH, LoadError
from benchmarks.servers import EmptyEnvoyServer, EmptyServer, ServerError, ServerProcess, free_ports


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5


def test_the_empty_server_answers_with_its_bytes_and_stops() -> None:
    with EmptyServer(b"\x08\x2a") as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert channel.unary_unary(SAMPLE_PATH)(b"anything", timeout=10) == b"\x08\x2a"
            answers = channel.stream_stream(STREAM_PATH)(iter([b"a", b"b", b"c"]), timeout=10)
            assert list(answers) == [b"\x08\x2a"] * 3
        checked_empty(server.port, b"anything", b"\x08\x2a")
        with pytest.raises(LoadError, match="answered"):
            checked_empty(server.port, b"anything", b"something else")
        assert server.rss_bytes() > 1 << 20
        assert server.cpu_s() > 0
        assert server.stop() == 0
    assert server.process is not None
    assert server.process.poll() == 0


def test_the_empty_server_serves_a_unix_socket_too(tmp_path: Path) -> None:
    with EmptyServer(b"x", socket_path=tmp_path / "s"), grpc.insecure_channel(f"unix:{tmp_path / 's'}") as channel:
        assert channel.unary_unary(SAMPLE_PATH)(b"anything", timeout=10) == b"x"


def test_the_empty_handler_within_envoy_reads_all_and_answers_with_its_bytes() -> None:
    with EmptyEnvoyServer(b"\x08\x2a") as server:
        checked_empty(server.port, bytes(1 << 20), b"\x08\x2a")
        with pytest.raises(LoadError, match="answered"):
            checked_empty(server.port, b"anything", b"something else")
        assert server.stop() == 0


PARENT = """\
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "held = bytearray(200 << 20); input()"], stdin=subprocess.PIPE)
print("up", flush=True)
child.wait()
"""


def test_a_server_is_all_of_its_processes() -> None:
    server = ServerProcess([sys.executable, "-c", PARENT], 1, lambda: server.pss_bytes() > 200 << 20)
    with server:
        assert len(server.pids()) == 2
        assert server.pids()[0] == server.pid
        assert server.rss_bytes() > 200 << 20
        assert server.cpu_s() > 0


def test_a_server_that_dies_says_why() -> None:
    server = ServerProcess([sys.executable, "-c", "raise SystemExit('no such device')"], 1, lambda: False)
    with pytest.raises(ServerError, match="no such device"), server:
        pass


def test_somebody_elses_server_on_the_port_is_not_taken_for_ours() -> None:
    server = ServerProcess([sys.executable, "-c", "raise SystemExit('address in use')"], 1, lambda: _gone(server))
    with pytest.raises(ServerError, match="address in use"), server:
        pass


def _gone(server: ServerProcess) -> bool:
    """Answer only once the process has exited, as another server on its port would."""
    assert server.process is not None
    server.process.wait(10)
    return True
