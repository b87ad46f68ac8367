"""What `make bench-gpu` says of servers, over the interpreted kernels: that it counts, not how much."""

from __future__ import annotations

import json

import pytest

from benchmarks.gpu import __main__ as bench
from benchmarks.gpu import served

pytestmark = pytest.mark.slow


def test_calls_are_made_of_a_server_on_the_card_and_of_one_on_the_cpu(monkeypatch, capsys) -> None:
    monkeypatch.setattr(served, "CALLS", 6)
    monkeypatch.setattr(served, "CONNECTIONS", 1)
    monkeypatch.setattr(served, "IN_FLIGHT", 2)
    interpreted = ("--device", "interpret", "--device-memory", "8MiB")
    monkeypatch.setattr(served, "DEVICES", {"cuda": interpreted, "cpu": ("--device", "cpu")})
    cases = (
        served.Case(2, 40, "f32", {}),
        served.Case(1, 40, "bf16", {"top_k": 5}),
        served.Case(1, 300, "f32", {"top_p": 0.5}, is_uploaded=True),
    )
    monkeypatch.setattr(bench, "CASES", cases)
    assert bench.main(["--json", "--only", "served"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ["2 x 40 f32, plain", "1 x 40 bf16, top_k 5", "1 x 300 f32, top_p 0.5, uploaded"]
    assert [line["call"] for line in lines] == names
    for line in lines:
        card, cpu = line["served"]["cuda"], line["served"]["cpu"]
        assert 2 * card["batches"] <= card["launches"] <= 8 * card["batches"]
        assert (cpu["launches"], cpu["copied_bytes"]) == (0, 0)
        for own in (card, cpu):
            assert own["rows_per_s"] > 0
            assert own["p99_ms"] >= own["p50_ms"] > 0
    copied = [line["served"]["cuda"]["copied_bytes"] for line in lines]
    assert copied[0] >= 2 * 40 * 4
    assert copied[2] == 0, "what was uploaded stays on the card"
