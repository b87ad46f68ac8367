"""The benchmark of a GPU, over the double of a card: that it runs, not what it says; and that tests/gpu can be read."""

from __future__ import annotations

import json

import pytest

from benchmarks.gpu import __main__ as bench
from benchmarks.gpu import card, others
from samplerd_server.sampling.cuda.late_card import LateCard
from tests.gpu import draw_golden, test_card


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(card, "ROUNDS", 1)
    monkeypatch.setattr(card, "REPEATS", 1)
    monkeypatch.setattr(card, "MEMORY_BYTES", 8 << 20)
    monkeypatch.setattr(card, "open_card", lambda _: LateCard())
    monkeypatch.setattr(bench, "SHAPES", (bench.Shape(2, 300, "f32"), bench.Shape(1, 40, "bf16")))


def test_it_measures_every_shape(small, capsys) -> None:
    assert bench.main(["--json", "--only", "card"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["rows"], line["width"], line["dtype"]) for line in lines] == [(2, 300, "f32"), (1, 40, "bf16")]
    names = [
        *bench.PARAMETERS,
        *(f"host, {own}" for own in bench.PARAMETERS),
        "begin to end",
        "copy to the card",
        "one read within the card",
    ]
    for line in lines:
        assert list(line["us"]) == names
        assert all(value > 0 for value in line["us"].values())


def test_it_prints_a_table(small, capsys) -> None:
    assert bench.main(["--only", "card"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("2 x 300 f32, 0.0 MB\n")
    assert text.count(" us  plain\n") == 2


def test_the_tests_for_a_gpu_can_be_imported() -> None:
    assert draw_golden.main
    assert test_card.pytestmark.name == "gpu"
    assert others.torch_times(1, 10, "f32") == others.flashinfer_times(1, 10, "f32") == {}
