"""How scenarios are found, chosen and held against their targets."""

import sys
from pathlib import Path

import pytest
from grpc import RpcError

from benchmarks.__main__ import StaleResultError, main, parse_args, show
from benchmarks.load import LoadError
from benchmarks.report import ROOT
from benchmarks.scenario import ON_REQUEST, Options, Scenario, Target, load_scenario, titles

NAMES = list(titles())


@pytest.mark.parametrize("name", NAMES)
def test_every_module_of_the_folder_is_a_scenario_with_a_title(name: str) -> None:
    assert isinstance(load_scenario(name), Scenario)
    assert " " in titles()[name]


def test_titles_are_first_lines_of_docstrings_and_import_nothing(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "warmth.py").write_text('"""How warm it gets.\n\nMore.\n"""\nraise SystemExit("imported")\n')
    (tmp_path / "bare.py").write_text("raise SystemExit\n")
    assert titles(tmp_path) == {"bare": "bare", "warmth": "How warm it gets"}


def test_a_module_without_a_scenario_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "benchmarks.scenarios.nothing", sys.modules["json"])
    with pytest.raises(TypeError, match="must define SCENARIO"):
        load_scenario("nothing")


def test_quick_figures_do_not_overwrite_results() -> None:
    assert parse_args([]).output == ROOT / "benchmarks/results"
    assert parse_args(["--quick"]).output == ROOT / "build/benchmarks"


def test_an_unknown_scenario_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(["surfed"])
    assert "unknown scenario surfed" in capsys.readouterr().err


def test_without_a_name_everything_runs_but_what_must_be_asked_for() -> None:
    assert set(parse_args([]).names) == set(NAMES) - ON_REQUEST
    assert parse_args(["memory", "--transport", "envoy"]).names == ["memory"]


def test_options_reach_the_scenarios() -> None:
    assert parse_args([]).options == Options()
    args = parse_args(["--quick", "--transport", "envoy", "--memory-requests", "7"])
    assert args.options == Options(quick=True, transports=("envoy",), memory_requests=7)


@pytest.mark.parametrize(
    ("value", "bound", "at_most", "is_met"),
    [
        (0.85, 0.85, False, True),
        (0.84, 0.85, False, False),
        (3.0, 3.0, True, True),
        (3.1, 3.0, True, False),
        (float("nan"), 1.0, False, False),
        (float("nan"), 1.0, True, False),
    ],
)
def test_a_target_is_met_at_its_bound(value: float, bound: float, at_most: bool, is_met: bool) -> None:
    target = Target(what="x", value=value, bound=bound, at_most=at_most)
    assert target.is_met is is_met
    assert target.cells()[-1] == ("met" if is_met else "MISSED")


def test_a_target_shows_its_unit() -> None:
    assert Target(what="idle", value=123.456, bound=600, at_most=True, unit="MiB").cells() == [
        "idle",
        "<= 600 MiB",
        "123.46 MiB",
        "met",
    ]
    assert Target(what="ratio", value=1.5, bound=2.5).cells()[1:] == [">= 2.5x", "1.50x", "MISSED"]


def test_a_result_is_shown_as_a_table_and_its_targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = Target(what="fast", value=1, bound=2)
    scenario = Scenario(
        run=lambda progress, options: {}, table=lambda result: (["a"], [[result["a"]]]), targets=lambda _: [target]
    )
    monkeypatch.setattr("benchmarks.__main__.load_scenario", lambda _: scenario)
    shown, targets = show(NAMES[0], {"a": "17", "note": "so"}, tmp_path)
    assert "(so)\n\na\n--\n17" in shown
    assert targets == [target]
    assert not list(tmp_path.iterdir())


def test_a_result_of_another_version_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(StaleResultError, match="no 'servers'"):
        show("memory", {"series": []}, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [LoadError("no answer"), OSError("no space left"), RpcError("unavailable")])
def test_a_scenario_that_fails_does_not_lose_the_others(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(progress: object, options: object) -> dict[str, object]:
        raise error

    scenarios = {
        "idle": Scenario(run=fail, table=lambda result: ([], [])),
        "memory": Scenario(run=lambda progress, options: {"a": "17"}, table=lambda result: (["a"], [[result["a"]]])),
    }
    monkeypatch.setattr("benchmarks.__main__.load_scenario", scenarios.__getitem__)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "idle", "memory", "--output", str(tmp_path)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main() == 1
    shown = capsys.readouterr()
    assert "17" in shown.out
    assert f"idle failed: {error}" in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["memory.json"]
