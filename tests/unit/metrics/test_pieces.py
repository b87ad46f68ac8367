"""A scrape is done in pieces: how many series are read and written between two rests, without a clock."""

from __future__ import annotations

import pytest

from samplerd_server.app.app import RPCS
from samplerd_server.metrics import instruments, metrics, pieces, text
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.metrics.pieces import GAUGE, SERIES, rested
from samplerd_server.metrics.text import write

LARGEST = 2 * SERIES
"""Series of the largest metric and some more: one metric is read whole, so that its series belong together."""


@pytest.fixture
def work(monkeypatch):
    """Steps of the work since the last rest, of each piece: a list that grows with every rest."""
    done = [0]

    def rest() -> None:
        done.append(0)

    monkeypatch.setattr(pieces, "rest", rest)
    monkeypatch.setattr(metrics, "rest", rest)
    return done


def served() -> Metrics:
    own = Metrics(rpc.labels for rpc in RPCS)
    for instrument in own._shown.values():
        if isinstance(instrument, instruments.Gauge) and not instrument.labels:
            instrument.watch(lambda: 1.0)
    return own


def test_few_series_are_read_between_two_rests(work, monkeypatch):
    own = served()
    for kind, cost in ((instruments.Counter, 1), (instruments.Histogram, 1), (instruments.Gauge, GAUGE)):

        def counted(self, read=kind.read, cost=cost):
            keys, values = read(self)
            work[-1] += cost * len(values)
            return keys, values

        monkeypatch.setattr(kind, "read", counted)
    series = len(own.read().values)
    assert series > 4 * SERIES
    assert max(work) < SERIES + LARGEST


def test_few_series_are_written_between_two_rests(work, monkeypatch):
    snapshot = served().read()
    number = text._number

    def counted(value: float) -> str:
        work[-1] += 1
        return number(value)

    monkeypatch.setattr(text, "_number", counted)
    work[:] = [0]
    write(snapshot, is_open_metrics=True)  # with what stands before the values, which is written once
    assert sum(work) == len(snapshot.values)
    assert max(work) <= SERIES
    work[:] = [0]
    write(snapshot, is_open_metrics=True)
    assert len(work) == -(-len(snapshot.values) // SERIES)


def test_families_are_taken_together_up_to_the_size_of_a_piece(work):
    taken = []
    for thing in rested("abcde", [3, 1, 2, 9, 1], size=4):
        while len(taken) < len(work):
            taken.append("")
        taken[-1] += thing
    assert taken == ["ab", "c", "d", "e"]
