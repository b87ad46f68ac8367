"""A real Prometheus with the rules of deploy/: every alert fires, and every query of the dashboard has data.

The rules are those of the file with every duration divided by 60: minutes become seconds. One Prometheus scrapes two
servers: one that a test overloads and hangs, and one with workers, TLS and a policy.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc
from scripts.generate.dashboard import ROWS
from tests.support.certificates import Authority, Pair, tls_flags
from tests.support.daemon import Daemon
from tests.support.faults import HUNG_DEVICE, Faults
from tests.support.tools import need
from tests.support.worker_pool import children

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
WAIT_S = 120.0
BUSY_LOOP = """
import time, samplerd_server.transport.rpc.submitter as own
submit = own.Submitter.submit
def slow(*arguments, **named):
    time.sleep(0.05)
    return submit(*arguments, **named)
own.Submitter.submit = slow
"""
"""Each request takes the event loop 50 ms: with sixteen callers the others wait in the transport."""
TOKEN, STRANGER = "a" * 32, "b" * 32
SERVICE = "/samplerd.v1.SamplerService"
LIMIT = 1 << 20


def rules() -> str:
    return (FOLDER / "rules.yml").read_text(encoding="utf-8")


def in_seconds(text: str) -> str:
    """Divide every duration of the rules by 60; names of series keep theirs."""
    seconds = {"m": 1, "h": 60}

    def divide(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * seconds[found[3]]}s"

    return re.sub(r"(\[|for: )(\d+)([mh])\b", divide, text)


class Prometheus:
    """A server of Prometheus; its targets are read from a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        (folder / "rules.yml").write_text(in_seconds(rules()), encoding="utf-8")
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": "samplerd",
                    "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}],
                    "scrape_timeout": "500ms",
                }
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        self.watch([])

    def watch(self, addresses: list[str]) -> None:
        scratch = self._folder / "targets.new"
        scratch.write_text(json.dumps([{"targets": addresses}]), encoding="utf-8")
        scratch.rename(self._folder / "targets.json")

    def start(self) -> None:
        command = [
            *(need("prometheus"), "--config.file", self._folder / "prometheus.yml", "--log.level", "error"),
            *("--storage.tsdb.path", self._folder / "data", "--web.listen-address", self._address),
        ]
        self._process = subprocess.Popen([str(word) for word in command])
        self.until(self._is_ready)

    def _is_ready(self) -> bool:
        with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=WAIT_S) as reply:
            return bool(reply.status == 200)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(WAIT_S) == 0

    def ask(self, what: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://{self._address}/api/v1/{what}?{query}", timeout=WAIT_S) as reply:
                return json.loads(reply.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def values(self, query: str) -> list[float]:
        """The values of a query that are numbers."""
        found = [float(series["value"][1]) for series in self.ask("query", query=query)["result"]]
        return [value for value in found if value == value]  # NaN is none

    def firing(self) -> set[str]:
        alerts = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for a condition; the clock is round trips to Prometheus."""
        event = threading.Event()
        for _ in range(int(WAIT_S / 0.2)):
            with contextlib.suppress(ConnectionError, urllib.error.URLError):
                if found := condition():
                    return found
            event.wait(0.2)
        raise AssertionError(f"it did not come about; firing: {sorted(self.firing())}")

    def until_firing(self, *names: str) -> None:
        self.until(lambda: set(names) <= self.firing())


class Load:
    """Calls on threads of their own until the end; what becomes of them is not looked at."""

    def __init__(self, *calls: Callable[[], object], pause_s: float = 0.02) -> None:
        self._pause_s = pause_s
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(call,)) for call in calls]

    def _run(self, call: Callable[[], object]) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(grpc.RpcError):
                call()
            self._ended.wait(self._pause_s)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    own = Prometheus(tmp_path_factory.mktemp("prometheus"))
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Pair]:
    authority = Authority(tmp_path_factory.mktemp("authority"), "authority")
    return authority, authority.sign("localhost")


def rows(numbers: np.ndarray, **fields: Any) -> pb.SampleRequest:
    rows, vocab_size = numbers.shape
    tensor = pb.Tensor(rows=rows, vocab_size=vocab_size, data=numbers.astype(np.float32).tobytes())
    return pb.SampleRequest(tensor=tensor, **fields)


GOOD = rows(np.zeros((4, 1000)))
BAD = rows(np.full((4, 1000), np.nan))


# What needs no server.


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml"), ("check", "config", "prometheus.yml")],
    ids=" ".join,
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([need("promtool"), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


ALERTS = re.findall(r"- alert: (\w+)", rules())
RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_paragraph(name: str) -> None:
    assert f"runbook: docs/operations.md#{name.lower()}\n" in rules()
    assert len(RUNBOOK.partition(f"\n### {name}\n")[2].partition("\n#")[0]) > 100


def test_durations_are_divided_in_rules_and_not_in_names() -> None:
    assert in_seconds("a:rate5m rate(x[5m]) for: 2m [1h] [30m]") == "a:rate5m rate(x[5s]) for: 2s [60s] [30s]"


# The servers.


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def troubled(faults: Faults) -> Iterator[Daemon]:
    """A server that will be overloaded, hang and end."""
    flags = ("--stall-limit", "0", "--queue-rows", "64", "--event-loop-draw-limit", "0", "--max-batch-rows", "8")
    daemon = Daemon(*flags, env=faults.environment)
    daemon.__enter__()
    yield daemon
    daemon.process.kill()
    daemon.wait()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, pair: tuple[Authority, Pair]) -> Iterator[Daemon]:
    """A server with workers, TLS, tokens and a policy."""
    folder = tmp_path_factory.mktemp("access")
    tokens, policy = folder / "tokens", folder / "policy.toml"
    digests = {"friend": TOKEN, "guest": STRANGER}
    lines = [f"{name}:sha256:{hashlib.sha256(own.encode()).hexdigest()}\n" for name, own in digests.items()]
    tokens.write_text("".join(lines), encoding="utf-8")
    policy.write_text(f'[allow]\nfriend = ["{SERVICE}/*"]\n', encoding="utf-8")
    flags = (*tls_flags(pair[1]), "--token-file", str(tokens), "--policy-file", str(policy), "--workers", "2")
    with Daemon(*flags, "--max-message-bytes", str(LIMIT)) as daemon:
        daemon.forgiven.add("worker ended")
        yield daemon


@contextlib.contextmanager
def calls(daemon: Daemon, authority: Authority | None = None, token: str = "") -> Iterator[Callable[..., object]]:
    """Call Sample: ``call(request, timeout_s)``."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    if authority is None:
        channel = grpc.insecure_channel(daemon.address, options)
    else:
        trusted = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
        channel = grpc.secure_channel(daemon.address, trusted, options)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with channel:
        stub = sampler_pb2_grpc.SamplerServiceStub(channel)
        yield lambda request, timeout_s=5.0: stub.Sample(request, timeout=timeout_s, metadata=metadata)


# Every alert, of its cause.


def test_pages_of_both_kinds_are_clean(guarded: Daemon, troubled: Daemon) -> None:
    for daemon in (guarded, troubled):
        with urllib.request.urlopen(f"http://{daemon.metrics_address}/metrics", timeout=WAIT_S) as reply:
            page = reply.read()
        done = subprocess.run([need("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_alerts_fire_of_their_causes_and_of_nothing_else(
    prometheus: Prometheus,
    guarded: Daemon,
    troubled: Daemon,
    faults: Faults,
    pair: tuple[Authority, Pair],
) -> None:
    authority = pair[0]
    prometheus.watch([guarded.metrics_address, troubled.metrics_address])
    prometheus.until(lambda: len(prometheus.values('up{job="samplerd"} == 1')) == 2)
    with (
        calls(troubled) as plain,
        calls(guarded, authority, TOKEN) as friend,
        calls(guarded, authority, STRANGER) as guest,
    ):
        # A server that is well: the certificate alone, of two days, is complained of.
        with Load(lambda: plain(GOOD), lambda: friend(GOOD)):
            prometheus.until_firing("SamplerdCertificateExpires")
            prometheus.until(lambda: prometheus.values("job:samplerd_requests:rate5m > 10"))
            states = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
            assert [rule for rule in states if rule["health"] != "ok"] == []
            assert len([rule for rule in states if rule["type"] == "alerting"]) == len(ALERTS)
            assert prometheus.firing() - LATENCY_ON_BUSY_MACHINES == {"SamplerdCertificateExpires"}
        large = pb.SampleRequest(tensor=pb.Tensor(data=bytes(LIMIT)))
        with Load(lambda: friend(BAD), lambda: guest(GOOD), lambda: friend(large)):
            prometheus.until_firing("SamplerdRowErrors", "SamplerdCallersRefused", "SamplerdMessagesUnread")
        restarts(prometheus, guarded)
        with Load(*[lambda: plain(GOOD)] * 16):
            faults.inject(BUSY_LOOP)
            slow = ("SamplerdLatencyBudgetBurnsFast", "SamplerdLatencyBudgetBurns")
            prometheus.until_firing("SamplerdOverloaded", *slow)
        faults.inject(HUNG_DEVICE)
        with Load(*[lambda: plain(GOOD, 20.0)] * 40):
            full = ("SamplerdRefusesLoad", "SamplerdQueueNearlyFull", "SamplerdDeviceStalled")
            prometheus.until_firing(*full, "SamplerdErrorBudgetBurnsFast", "SamplerdErrorBudgetBurns")
            troubled.process.kill()
    prometheus.until_firing("SamplerdDown")


LATENCY_ON_BUSY_MACHINES = {"SamplerdLatencyBudgetBurnsFast", "SamplerdLatencyBudgetBurns", "SamplerdOverloaded"}
"""Other work on the machine may make requests slow; nothing else may alert."""


def restarts(prometheus: Prometheus, guarded: Daemon) -> None:
    """Stop a worker for a while, then kill it."""
    victim = children(guarded)[0]
    os.kill(victim, signal.SIGSTOP)
    prometheus.until_firing("SamplerdWorkerDown")
    os.kill(victim, signal.SIGKILL)
    prometheus.until_firing("SamplerdWorkerRestarts")


# The dashboard.


def test_every_query_of_the_dashboard_has_data(
    prometheus: Prometheus, guarded: Daemon, pair: tuple[Authority, Pair]
) -> None:
    prometheus.watch([guarded.metrics_address])
    queries = [query for row in ROWS.values() for panel in row for query in panel.queries]
    assert len(queries) > 40
    chosen = f'job=~".*",instance=~"{re.escape(guarded.metrics_address)}"'.replace("\\", "\\\\")
    with calls(guarded, pair[0], TOKEN) as friend, Load(lambda: friend(GOOD), lambda: friend(BAD)):
        for query in queries:
            text = query.text.replace("$s", chosen).replace("$__rate_interval", "5s")
            prometheus.until(lambda text=text: prometheus.values(text))
