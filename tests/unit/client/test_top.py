"""``samplerctl top``: what two looks at /metrics say, and how it is shown."""

from __future__ import annotations

import json
import math
import threading
from collections import defaultdict

import pytest

from samplerd_client.samplerctl import main, metrics_page, top
from samplerd_client.samplerctl.metrics_page import Look, NoAnswerError, figures


def seen(at_s: float, **values: float) -> Look:
    """A look; ``name=value`` or ``name__code_OK=value`` for a series with a label."""
    series = defaultdict(list)
    for name, value in values.items():
        own, _, code = name.partition("__")
        series[f"samplerd_{own}"].append((f'code="{code}",rpc="Sample"' if code else "", value))
    return Look(at_s, series)


BEFORE = seen(
    10.0, rows_total=100, requests_total__OK=50, requests_total__NOT_FOUND=1, batch_rows_sum=100, batch_rows_count=50
)
AFTER = seen(
    12.0,
    rows_total=300,
    requests_total__OK=70,
    requests_total__NOT_FOUND=5,
    requests_total__RESOURCE_EXHAUSTED=6,
    shed_total=6,
    batch_rows_sum=300,
    batch_rows_count=60,
    queue_wait_seconds_sum=0.5,
    queue_wait_seconds_count=100,
    queue_rows=9,
    transport_waiting_calls=4,
    worker_up=1,
)


def test_figures_are_of_the_time_between_two_looks():
    own = figures(BEFORE, AFTER)
    assert (own.rows_per_s, own.requests_per_s, own.rows_per_batch) == (100.0, 15.0, 20.0)
    assert (own.queue_wait_s, own.queue_rows, own.waiting_calls) == (0.005, 9, 4)
    assert (own.shed_per_s, own.failed_per_s, own.workers_up) == (3.0, 2.0, 1)
    assert math.isnan(own.transport_wait_s)
    assert math.isnan(own.compute_s)


def test_a_server_that_was_started_again_has_no_negative_rates():
    own = figures(AFTER, seen(13.0, rows_total=5))
    assert (own.rows_per_s, own.requests_per_s, own.shed_per_s) == (0.0, 0.0, 0.0)
    assert math.isnan(own.rows_per_batch)


@pytest.fixture
def looks(monkeypatch):
    """Lets each look at an address take the next of these."""
    given: dict[str, list] = {}

    def take(address):
        own = given[address].pop(0)
        if isinstance(own, Exception):
            raise own
        return own

    monkeypatch.setattr(top, "look", take)
    return given


def test_a_server_that_does_not_answer_hides_no_other(looks, capsys):
    looks |= {"a:1": [BEFORE, AFTER], "b:2": [NoAnswerError("connection refused"), BEFORE]}
    assert main(["top", "a:1", "b:2", "--interval", "0.1", "--count", "2"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")[:2]
    assert first.splitlines() == ["a:1: seen for the first time", "b:2: connection refused"]
    header, _, row, other = second.splitlines()
    assert header.split()[:3] == ["server", "rows/s", "requests/s"]
    assert row.split()[:4] == ["a:1", "100", "15", "20.0"]
    assert other == "b:2: seen for the first time"


def test_a_server_that_is_silent_does_not_hold_up_the_others(monkeypatch, capsys):
    monkeypatch.setattr(top, "_PATIENCE_S", 0.05)
    over = threading.Event()
    others = [BEFORE, AFTER]

    def take(address):
        if address == "b:2":
            over.wait()
            return BEFORE
        if len(others) == 1:
            asked.append(over.is_set())
        return others.pop(0)

    asked: list[bool] = []
    monkeypatch.setattr(top, "look", take)
    try:
        assert main(["top", "a:1", "b:2", "--interval", "0.1", "--count", "2"]) == 0
    finally:
        over.set()
    assert asked == [False], "the second look at a:1 waited for b:2"
    assert capsys.readouterr().out.count("b:2: no answer for 0 s") == 2


def test_json_has_a_line_for_each_server_and_look(looks, capsys):
    looks |= {"a:1": [BEFORE, AFTER]}
    assert main(["top", "a:1", "--interval", "0.1", "--count", "1", "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["rows_per_s"] == 100.0
    assert json.loads(line)["compute_s"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["http://a:1/metrics"], "is not host:port"),
        (["a"], "is not host:port"),
        (["a:0"], "is not host:port"),
        (["--interval", "0"], "is less than 0.1 s"),
        (["--interval", "x"], "is not a number of seconds"),
        (["--count", "0"], "is not a whole number"),
    ],
)
def test_a_bad_flag_is_told_in_a_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["top", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_page_that_is_not_samplerds_is_named(monkeypatch):
    class Reply:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self):
            return b"process_cpu_seconds_total 1.0\n"

    class Opener:
        def open(self, *_args, **_keywords):
            return Reply()

    monkeypatch.setattr(metrics_page.urllib.request, "build_opener", lambda *_: Opener())
    with pytest.raises(NoAnswerError, match="no samplerd"):
        metrics_page.look("127.0.0.1:1")
