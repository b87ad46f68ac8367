"""Which connections are refused for the calls that they reset."""

from __future__ import annotations

import pytest

from samplerd_server.transport.grpcio import resets as module
from samplerd_server.transport.grpcio.resets import Resets

MOST = module._MOST


class Ended:
    """Calls that ended at a time that the test sets."""

    def __init__(self):
        self.now = 100.0
        self.resets = Resets(lambda: self.now)

    def note(self, connection, answered, reset):
        for number in range(answered + reset):
            self.resets.note(connection, is_reset=number >= answered)


@pytest.mark.parametrize(
    ("answered", "reset", "are_too_many"),
    [(0, 0, False), (0, MOST - 1, False), (0, MOST, True), (MOST - 1, MOST, True), (MOST, MOST, False)],
)
def test_a_connection_is_refused_that_resets_many_calls_and_most_of_them(answered, reset, are_too_many):
    ended = Ended()
    ended.note("a", answered, reset)
    ended.note("b", MOST, 1)
    assert ended.resets.are_too_many("a") is are_too_many
    assert not ended.resets.are_too_many("b")
    assert not ended.resets.are_too_many("c")


def test_a_second_later_nothing_is_held_against_it():
    ended = Ended()
    ended.note("a", 0, MOST)
    ended.now += module._WINDOW_S
    assert not ended.resets.are_too_many("a")
    ended.note("a", 0, 1)
    assert not ended.resets.are_too_many("a")


def test_only_the_connections_of_this_second_are_remembered():
    ended = Ended()
    for number in range(100):
        ended.note(str(number), 1, 1)
    ended.now += module._WINDOW_S
    ended.note("a", 1, 0)
    assert (ended.resets._ended, ended.resets._reset) == ({"a": 1}, {})
