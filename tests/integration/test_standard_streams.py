"""Standard streams that are closed, or that lie on a full disk: the server starts, answers and ends as always."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.daemon import KERNEL, START_S


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def counts_lost_lines(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    return any(float(line.split()[1]) > 0 for line in lines if line.startswith("samplerd_dropped_log_lines_total "))


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "</dev/null >/dev/full 2>/dev/full"], ids=["closed", "full"])
@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
def test_it_serves_without_standard_streams(transport, streams):
    port = free_port()
    process = subprocess.Popen(
        [
            *("sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "samplerd_server", "--kernel", KERNEL),
            *("--transport", transport, "--listen", "127.0.0.1:0", "--metrics-listen", f"127.0.0.1:{port}"),
        ]
    )
    try:
        give_up = time.monotonic() + START_S
        while not is_ready(port):
            assert process.poll() is None, "samplerd ended"
            assert time.monotonic() < give_up, "samplerd did not start"
            time.sleep(0.1)  # leaves the processor to the server
        while "full" in streams and not counts_lost_lines(port):
            assert time.monotonic() < give_up, "what a full disk did not take is not counted"
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code in {0, 120} if "full" in streams else code == 0  # Python's own, for a last flush that fails


@pytest.mark.parametrize(
    "flags", [["--token-file", "/absent"], ["--listen", "nowhere"]], ids=["found in a file", "found in a flag"]
)
def test_an_unusable_setting_has_its_exit_code_though_the_disk_for_the_log_is_full(flags):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "samplerd_server", *flags, "--metrics-listen", "127.0.0.1:0"]
        assert subprocess.run(command, stderr=full, timeout=START_S, check=False).returncode == 2


def test_a_taken_port_has_its_exit_code_though_the_disk_for_the_log_is_full():
    with socket.socket() as taken, Path("/dev/full").open("w") as full:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [
            *(sys.executable, "-m", "samplerd_server", "--listen", f"127.0.0.1:{taken.getsockname()[1]}"),
            *("--metrics-listen", "127.0.0.1:0"),
        ]
        assert subprocess.run(command, stderr=full, timeout=START_S, check=False).returncode == 2
