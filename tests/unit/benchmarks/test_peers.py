"""The peers: installed once, called with their own client, and not believed without a check."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import plots
from benchmarks.load import LoadError
from benchmarks.peers import peer as peers
from benchmarks.peers.peer import PEERS, PeerServer, checked_body, install
from benchmarks.scenarios.peers import SCENARIO
from benchmarks.servers import ServerError

ROW = np.linspace(-3, 3, 30, dtype="<f4")


def done(code: int = 0, out: str = "", error: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, out, error)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Record what would be run, in environments below the test's folder."""
    seen: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return done()

    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path / "peers")
    monkeypatch.setattr(peers.subprocess, "run", run)
    return seen


@pytest.mark.parametrize("name", PEERS)
def test_torch_is_installed_first_and_only_once(name: str, commands: list[list[str]]) -> None:
    install(PEERS[name], lambda message: None)
    assert ["venv" in command for command in commands] == [True, False, False]
    assert commands[1][-1].startswith("torch==")
    assert commands[2][-len(PEERS[name].requirements) :] == list(PEERS[name].requirements)
    install(PEERS[name], lambda message: None)
    assert len(commands) == 3


def test_another_requirement_is_another_environment(commands: list[list[str]]) -> None:
    install(PEERS["mosec"], lambda message: None)
    stamp = PEERS["mosec"].environment / "installed"
    stamp.write_text(stamp.read_text().replace("0.9.8", "0.9.7"))
    install(PEERS["mosec"], lambda message: None)
    assert len(commands) == 6


def test_a_failed_installation_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(peers.subprocess, "run", lambda *_, **__: done(1, error="no such wheel"))
    with pytest.raises(ServerError, match="no such wheel"):
        install(PEERS["mosec"], lambda message: None)
    assert not (PEERS["mosec"].environment / "installed").exists()


class Client:
    """Stands in for the peer's own client: answers with the argmax, or with whatever it is told to."""

    def __init__(self) -> None:
        self.answer: int | None = None
        self.code = 0

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        logits, body = Path(command[3]), Path(command[5])
        body.write_bytes(b"call")
        drawn = int(np.argmax(np.fromfile(logits, "<f4"))) if self.answer is None else self.answer
        return done(self.code, "a warning\n" + json.dumps({"id": drawn, "reply_bytes": 9}), "refused")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr(peers.subprocess, "run", client)
    return client


def test_a_body_is_what_the_peers_own_client_sent(client: Client, tmp_path: Path) -> None:
    body = checked_body(PeerServer(PEERS["mosec"], tmp_path), ROW)
    assert body.path.read_bytes() == b"call"
    assert body.reply_bytes == 9


@pytest.mark.parametrize("answer", [0, 31, -1])
def test_an_id_that_cannot_be_drawn_is_refused(client: Client, tmp_path: Path, answer: int) -> None:
    client.answer = answer
    with pytest.raises(LoadError, match="where only 10 can be drawn"):
        checked_body(PeerServer(PEERS["mosec"], tmp_path), ROW)


def test_a_client_that_fails_is_quoted(client: Client, tmp_path: Path) -> None:
    client.code = 1
    server = PeerServer(PEERS["mosec"], tmp_path)
    with pytest.raises(LoadError, match="mosec's client failed: refused"):
        checked_body(server, ROW)
    assert not server.is_ready()
    assert "refused" in server.tail()


def test_a_client_without_an_answer_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(peers.subprocess, "run", run)
    with pytest.raises(LoadError, match="mosec's client had no answer"):
        checked_body(PeerServer(PEERS["mosec"], tmp_path), ROW)


def result() -> dict[str, Any]:
    def peer(name: str, factor: float) -> dict[str, Any]:
        def side(rate: float) -> dict[str, Any]:
            figures = {"rows_per_s": rate, "cpu_us_per_row": 1.0, "latency_ms": {"p50": 1.0, "p99": 2.0}}
            return {**figures, "rounds": [figures]}

        sizes = [
            {
                "vocab_size": size,
                "ratios": {"envoy": factor * least},
                "measured": {name: side(100.0), "envoy": side(100 * factor * least)},
            }
            for size, least in ((1_000, 1.3), (32_000, 4.5), (128_000, 5.9))
        ]
        return {"name": name, "version": "1", "api": "HTTP", "sizes": sizes}

    both = [peer("mosec", 1.01), peer("ray", 9.0)]
    return {"transports": ["envoy"], "peers": both, "failed": {"triton": "no wheel\nmore"}}


def test_the_targets_are_over_the_best_peer() -> None:
    targets = list(SCENARIO.targets(result()))
    assert [target.is_met for target in targets] == [True, True, False]
    assert all("best peer (mosec)" in target.what for target in targets)


def test_a_peer_that_failed_has_its_line() -> None:
    header, rows = SCENARIO.table(result())
    assert {len(row) for row in rows} == {len(header)}
    assert rows[-1][0] == "triton failed: no wheel"


def test_the_picture(tmp_path: Path) -> None:
    assert SCENARIO.figure is not None
    assert all(path.stat().st_size > 0 for path in plots.save(tmp_path, "peers", SCENARIO.figure(result())))
