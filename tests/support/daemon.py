"""A real samplerd in its own process, on ports that the system chooses."""

from __future__ import annotations

import json
import queue
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

KERNEL = "auto"
"""Which sampler the tests' servers run; the first start after a change of the kernels compiles them for a minute."""
START_S = 240.0
STOP_S = 60.0


class Daemon:
    """Starts on entry, stops by its own process id on exit and checks that it ended well."""

    running: ClassVar[set[Daemon]] = set()
    """Those that have been started and not waited for."""

    def __init__(
        self,
        *flags: str,
        unix: Path | None = None,
        env: dict[str, str] | None = None,
        within: Sequence[str] = (),
        until: str = "serving",
    ) -> None:
        self._flags = [*flags, *(["--listen", f"unix:{unix}"] if unix else [])]
        self._env = env
        self._within = within
        """The command that runs the server in its place."""
        self._until = until
        """The line of the log that is waited for at the start."""
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.transport = "envoy" if "envoy" in flags else "grpcio"
        self.log: list[str] = []
        self.forgiven: set[str] = set()
        """Messages that may be errors here: a test has brought them about."""
        self.unix_address = f"unix:{unix}" if unix else ""

    def __enter__(self) -> Daemon:
        self.process = subprocess.Popen(
            [
                *(*self._within, sys.executable, "-m", "samplerd_server", "--log-format", "json", "--kernel", KERNEL),
                *("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *self._flags),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._env,
        )
        self.running.add(self)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            serving = self.wait_event(self._until, START_S)
        except BaseException:
            self.process.kill()
            self.wait()
            raise
        self.address = serving["listen"].split(",")[0]
        self.metrics_address = serving["metrics"]
        self.http_address = serving.get("http", self.address)
        """Where HTTP is served: by envoy beside gRPC, by grpcio on an address of its own."""
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"samplerd ended with {code}:\n" + "\n".join(self.log)
        errors = [line for line in self.log if '"level": "error"' in line]
        bad = [line for line in errors if json.loads(line)["message"] not in self.forgiven]
        assert not bad, "samplerd logged errors:\n" + "\n".join(bad)

    def wait(self) -> int:
        """Wait for the end of the process; returns its exit code."""
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("samplerd did not stop:\n" + "\n".join(self.log)) from None
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.running.discard(self)
        return code

    def kill(self) -> None:
        """End a server that a failed test has left behind, so that it fails no other test."""
        self.process.kill()
        self.wait()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if line.startswith("{"):
                self._events.put(json.loads(line))
        self._events.put(None)

    def wait_event(self, message: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait for a line of the log."""
        while True:
            event = self._events.get(timeout=timeout_s)
            assert event is not None, "samplerd ended:\n" + "\n".join(self.log)
            if event["message"] == message:
                return event

    def metrics(self) -> dict[str, float]:
        """Scrape: value by series as Prometheus writes it."""
        lines = self._scrape()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def metric_types(self) -> dict[str, str]:
        """Scrape: type of every metric that has a series, by its name as Prometheus stores it."""
        lines = self._scrape()
        types = dict(line.split()[2:4] for line in lines if line.startswith("# TYPE "))
        series = {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}
        return {name: kind for name, kind in types.items() if {name, f"{name}_count"} & series}

    def _scrape(self) -> list[str]:
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=30) as reply:
            return reply.read().decode().splitlines()
