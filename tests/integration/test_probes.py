"""/livez and /readyz of a real server: from its first moment to its drain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.support.daemon import KERNEL, Daemon
from tests.support.doors import engine_of
from tests.support.processes import children

STARTS = pytest.mark.parametrize(
    "flags",
    [("--transport", "grpcio"), ("--transport", "envoy"), ("--workers", "2")],
    ids=["grpcio", "envoy", "workers"],
)


def ask(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask_again(address: str, path: str) -> tuple[int, str]:
    """Ask, and once more if the connection was made in the instant in which Envoy takes the port over."""
    try:
        return ask(address, path)
    except (ConnectionError, urllib.error.URLError):
        return ask(address, path)


@STARTS
def test_ready_while_it_serves_and_not_while_it_drains(flags):
    with Daemon("--drain-delay", "600s", *flags) as daemon:
        for path in ("/livez", "/readyz"):
            assert ask(daemon.metrics_address, path) == (200, "ok\n")
        status, text = ask(daemon.metrics_address, "/readyz?verbose")
        assert (status, text.splitlines()[0], text.splitlines()[-1]) == (200, "[+]start ok", "readyz check passed")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_event("draining")
        status = 200
        while status == 200:
            status, text = ask(daemon.metrics_address, "/readyz")
        assert (status, "failed: " in text) == (503, True)
        assert ask(daemon.metrics_address, "/livez")[0] == 200
        time.sleep(0.5)  # signals that come at once are one; the second, of __exit__, ends the delay


@STARTS
def test_alive_and_not_ready_while_it_starts(flags):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "samplerd_server", "--log-format", "json", "--kernel", KERNEL),
            *("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *flags),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        starting = json.loads(process.stderr.readline())
        assert starting["message"] == "starting"
        assert ask(starting["metrics"], "/livez")[0] == 200
        status, text = ask(starting["metrics"], "/readyz")
        assert (status, "failed: " in text) == (503, True)
        assert ask(starting["metrics"], "/metrics")[0] == 200
        while status == 503:
            time.sleep(0.05)  # leaves the processor to the server
            status, _ = ask_again(starting["metrics"], "/readyz")
        assert status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate()
    assert process.returncode == 0, log


@pytest.mark.parametrize("transport", ["grpcio", "envoy"])
def test_a_port_that_is_taken_is_told_at_once(transport):
    with Daemon() as daemon:
        flags = ("--transport", transport, "--listen", "127.0.0.1:0", "--metrics-listen", daemon.metrics_address)
        command = [sys.executable, "-m", "samplerd_server", *flags]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"cannot listen on {daemon.metrics_address} for /metrics" in ended.stderr


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--doors", "1"), "the engine has not answered"),
        (("--workers", "2", "--stall-limit", "0"), "no worker has answered"),
    ],
    ids=["engine", "workers"],
)
def test_not_ready_while_what_draws_hangs(flags, why):
    """A stopped process stands for one that hangs."""
    with Daemon("--threads", "1", *flags) as daemon:
        stopped = [engine_of(daemon)] if "engine" in why else children(daemon.process.pid)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert why in until(daemon, 503)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        until(daemon, 200)


def until(daemon: Daemon, status: int) -> str:
    """Wait for a status; give what is said with it."""
    end = time.monotonic() + 60
    while (answer := ask(daemon.metrics_address, "/readyz"))[0] != status:
        assert time.monotonic() < end, answer
        time.sleep(0.05)
    return answer[1]
