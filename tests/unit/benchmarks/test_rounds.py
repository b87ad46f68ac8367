"""Subjects in turns: who is loaded when, and what is not taken for success."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import rounds
from benchmarks.load import Load, LoadError, LoadResult
from benchmarks.rounds import Plan, Subject, in_turns, ratio
from benchmarks.servers import ServerProcess

PLAN = Plan(seconds=2.0, rounds=3, warm_up_s=0.5)


class Silent(ServerProcess):
    """A server that is never started."""

    def cpu_s(self) -> float:
        return 0.0


def subject(name: str, port: int, **fields: int) -> Subject:
    return Subject(name=name, server=Silent([], port, lambda: True), body=Path(name), **fields)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record every load as (port, calls); the server of port 1,000 takes 1,000 calls a second, and so on."""
    seen: list[tuple[int, int]] = []

    def run_load(port: int, body: Path, *, requests: int, load: Load) -> LoadResult:
        seen.append((port, requests))
        latencies = dict.fromkeys(["p50", "p99"], 1.0)
        elapsed_s = requests / port
        return LoadResult(
            requests=requests,
            data_bytes=7 * requests,
            elapsed_s=elapsed_s,
            rate=port,
            mean_s=1.0,
            latency_s=latencies,
        )

    monkeypatch.setattr(rounds, "run_load", run_load)
    return seen


def test_every_round_loads_each_subject_once_for_as_long(loaded: list[tuple[int, int]]) -> None:
    said: list[str] = []
    progress: Callable[[str], None] = said.append
    measured = in_turns([subject("slow", 1_000), subject("fast", 4_000, rows=32)], PLAN, progress)
    warm_up, measuring = loaded[:4], loaded[4:]
    assert warm_up == [(1_000, 128), (1_000, 500), (4_000, 128), (4_000, 2_000)]
    assert measuring == [(1_000, 2_000), (4_000, 8_000)] * 3
    assert len(said) == 3
    assert measured["slow"]["rows_per_s"] == 1_000
    assert measured["fast"]["rows_per_s"] == 32 * 4_000
    assert measured["fast"]["latency_ms"] == {"p50": 1e3, "p99": 1e3}
    assert ratio(measured, "fast", "slow") == 128


def test_replies_of_another_length_are_not_success(loaded: list[tuple[int, int]]) -> None:
    good = subject("good", 1_000, reply_bytes=7)
    in_turns([good], PLAN, lambda message: None)
    with pytest.raises(LoadError, match="good sent 14000 bytes where 2000 replies of 11 were due"):
        in_turns([replace(good, reply_bytes=11)], PLAN, lambda message: None)


def test_the_replies_of_a_stream_are_counted(loaded: list[tuple[int, int]]) -> None:
    with pytest.raises(LoadError, match="20000 replies"):
        in_turns([subject("stream", 1_000, reply_bytes=7, messages=10)], PLAN, lambda message: None)
