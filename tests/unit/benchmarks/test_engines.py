"""The scenario `engines`: what it asks of each engine, what it makes of answers, what it says of a missing engine."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.scenario import Options
from benchmarks.scenarios import engines

STEPS = {"argmax": 0.010, "own": 0.040, "samplerd": 0.020}


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Run the scenario without engines and servers; return its result, its messages, and what workers were asked."""
    asked: list[tuple[Any, str, Any]] = []

    def work(folder: Any, worker: str, own: Any) -> Any:
        asked.append((folder, worker, own))
        rounds = {way: [[seconds] * own["steps"]] * own["rounds"] for way, seconds in STEPS.items()}
        return {"parameters": 1, "step_s": {str(batch): rounds for batch in own["batches"]}}

    def run(*, is_installed: bool) -> tuple[Any, list[str], Any]:
        folder = tmp_path / "llama.cpp"
        if is_installed:
            folder.mkdir()
            (folder / "installed").touch()
        monkeypatch.setattr(engines, "_LLAMA_CPP", folder)
        messages: list[str] = []
        return engines.run(messages.append, Options(quick=True)), messages, asked

    monkeypatch.setattr(engines, "_install", lambda progress: None)
    monkeypatch.setattr(engines, "_work", work)
    monkeypatch.setattr(engines, "SamplerServer", lambda *flags: contextlib.nullcontext(SimpleNamespace(port=1)))
    return run


def test_both_engines_are_measured_alike(measured) -> None:
    result, _, asked = measured(is_installed=True)
    assert result["missing"] == []
    assert [worker for _, worker, _ in asked] == ["generate_worker.py", "llama_worker.py"]
    theirs, ours = (own for *_, own in asked)
    assert {key: theirs[key] for key in ("batches", "rounds", "steps", "threads")} == {
        key: ours[key] for key in ("batches", "rounds", "steps", "threads")
    }
    assert ours["settings"] == {"temperature": 1.0, **theirs["settings"]}
    assert ours["shape"]["vocab_size"] == theirs["vocab_size"]
    _, rows = engines.table(result)
    assert [row[0] for row in rows[9:12]] == [
        "llama.cpp, 1 layers, batch 1, argmax",
        "llama.cpp, 1 layers, batch 1, own sampling",
        "llama.cpp, 1 layers, batch 1, samplerd",
    ]
    assert [row[4] for row in rows[9:12]] == ["", "75 %", "50 %"]
    assert rows[11][1:4] == ["50.0", "20", "20"]
    assert rows[11][5:] == ["2.00", "0.50"]


def test_the_promise_is_that_of_generate(measured) -> None:
    result, *_ = measured(is_installed=True)
    [target] = engines.targets(result)
    assert target.what.startswith("generate with samplerd over its own sampling, batch 32")
    assert target.value == pytest.approx(2)


def test_an_engine_that_is_not_installed_is_told_with_the_command_that_installs_it(measured) -> None:
    result, messages, asked = measured(is_installed=False)
    text = "not measured: llama-cpp-python is not installed, `python -m tests.peers.environments llama.cpp` compiles it"
    assert messages[0] == text
    assert [worker for _, worker, _ in asked] == ["generate_worker.py"]
    header, rows = engines.table(result)
    assert rows[-1] == [text, *[""] * (len(header) - 1)]
