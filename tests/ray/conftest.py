"""Two Ray nodes on this machine, replicas of samplerd on them, and the Envoy of deploy/envoy in front."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ray.environments import PATHS, PYTHON, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WAIT_S = 600.0
"""For a machine that others use too: nothing here is timed by it."""


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SAMPLERD_", "RAY_"))}
    return {**own, "PYTHONPATH": os.pathsep.join(map(str, PATHS)), "RAY_USAGE_STATS_ENABLED": "0"}


class Nodes:
    """A cluster of two nodes, each with one CPU."""

    def __init__(self, folder: Path) -> None:
        command = [str(PYTHON), "-W", "ignore", str(ROOT / "tests" / "ray" / "two_nodes.py")]
        with (folder / "nodes.log").open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment()
            )
        assert self._process.stdout is not None
        self.address, self.head, self.other = self._process.stdout.readline().split()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ok\n"

    def end(self) -> None:
        self._process.communicate("end\n", timeout=WAIT_S)


class Fleet:
    """`samplerd-ray up` on a cluster."""

    def __init__(self, nodes: Nodes, folder: Path, *arguments: str) -> None:
        self._nodes, self._folder = nodes, folder
        self._servers, self.endpoints, self.targets = (
            folder / name for name in ("servers", "endpoints.yaml", "targets.json")
        )
        told = ("--servers", str(self._servers), "--endpoints", str(self.endpoints), "--targets", str(self.targets))
        # Two replicas, and the place of a third while one of them drains, fit on one node.
        place = ("--cpus", "0.2", "--samplerd", str(ROOT / ".venv" / "bin" / "samplerd"))
        self._log = folder / "up.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                self._command("up", *told, *place, *arguments), stderr=log, env=environment()
            )

    def _command(self, *words: str) -> list[str]:
        own = [str(PYTHON), "-W", "ignore", "-m", "samplerd_ray", *words]
        # Flags of samplerd come last.
        at = own.index("--") if "--" in own else len(own)
        return [*own[:at], "--address", self._nodes.address, *own[at:]]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        told = {"env": environment(), "capture_output": True, "text": True, "timeout": WAIT_S}
        return subprocess.run(self._command(*words), check=False, **told)

    def addresses(self) -> list[str]:
        text = self._servers.read_text().strip() if self._servers.exists() else ""
        return text.split(",") if text else []

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def places(self) -> list[dict[str, Any]]:
        return list(self.status()["replicas"])

    def wait(self, is_so: Callable[[list[str]], bool]) -> float:
        """Wait until the addresses are so; return the seconds that it took."""
        began = time.monotonic()
        while not is_so(self.addresses()):
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() - began < WAIT_S, f"{self.addresses()}: {self._log.read_text()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(WAIT_S) == 0, self._log.read_text()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="session")
def nodes(folder: Path) -> Iterator[Nodes]:
    nodes = Nodes(folder)
    yield nodes
    nodes.end()


@pytest.fixture
def start_fleet(nodes: Nodes, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    started: list[Fleet] = []

    def start(*arguments: str) -> Fleet:
        started.append(Fleet(nodes, tmp_path, *arguments))
        return started[-1]

    yield start
    for fleet in started:
        if fleet.process.poll() is None:
            fleet.end()


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
