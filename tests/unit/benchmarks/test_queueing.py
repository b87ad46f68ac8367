"""The queue of one server: its simulation agrees with what is known of it."""

from __future__ import annotations

import math

import pytest

from benchmarks.queueing import Turns, fit_turns, mean_wait_s, sojourn


def test_the_mean_wait_is_that_of_the_formula() -> None:
    assert mean_wait_s(0.5, 1.0) == pytest.approx(0.5)
    assert mean_wait_s(0.5, 1.0, variation=1.0) == pytest.approx(1.0), "M/M/1 waits twice as long as M/D/1"
    assert mean_wait_s(0.0, 1.0) == 0


def test_exponential_services_give_exponential_times() -> None:
    """The time in M/M/1 is exponential with rate (1 - load) / service, exactly; n = 400,000, seed 3."""
    found = sojourn(0.5, 1.0, is_even=False, calls=400_000, seed=3)
    assert found.p50_s == pytest.approx(2 * math.log(2), rel=0.02)
    assert found.p99_s == pytest.approx(2 * math.log(100), rel=0.05)


def test_a_call_that_finds_nobody_takes_its_own_time() -> None:
    found = sojourn(0.01, 1.0, calls=20_000)
    assert found.p50_s == 1.0
    assert found.p99_s < 2.0


def test_even_services_wait_less_than_uneven_ones() -> None:
    assert sojourn(0.8, 1.0).p99_s < sojourn(0.8, 1.0, is_even=False).p99_s


@pytest.mark.parametrize("rate", [1.0, 2.0, -1.0])
def test_a_load_without_bound_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="not below 1"):
        sojourn(rate, 1.0)


def test_turns_that_cost_no_more_with_more_calls_wait_for_half_of_one() -> None:
    """So many calls come that turns follow each other: a call waits for the rest of one, uniform, and its own."""
    found, calls = Turns(turn_s=1.0, call_s=1e-9).sojourn(1000.0)
    assert found.p50_s == pytest.approx(1.5, rel=0.02)
    assert found.p99_s == pytest.approx(1.99, rel=0.02)
    assert calls == pytest.approx(1000, rel=0.02)


def test_a_busy_server_has_as_many_calls_a_turn_as_come_in_one() -> None:
    """Then calls = rate x (turn + calls x call), so calls = rate x turn / (1 - rate x call)."""
    assert Turns(turn_s=10.0, call_s=0.8).sojourn(1.0)[1] == pytest.approx(50, rel=0.05)


def test_lone_calls_have_a_turn_of_their_own() -> None:
    found, calls = Turns(turn_s=1.0, call_s=0.5).sojourn(0.001, calls=20_000)
    assert calls == pytest.approx(1, rel=0.01)
    assert found.p50_s == pytest.approx(1.5)


def test_the_times_are_found_again_from_rates() -> None:
    turns = Turns(turn_s=0.5, call_s=0.1)
    callers = [1, 8, 64, 512]
    found = fit_turns(callers, [turns.calls_per_s(own) for own in callers])
    assert (found.turn_s, found.call_s) == (pytest.approx(0.5), pytest.approx(0.1))
    assert turns.service_s(5) == pytest.approx(0.2)
    assert turns.capacity == pytest.approx(10)


def test_rates_that_fall_with_callers_give_turns_that_cost_nothing() -> None:
    found = fit_turns([1, 100], [10.0, 9.0])
    assert found.turn_s == 0
    assert 1 / 10 < found.call_s < 1 / 9


@pytest.mark.parametrize("rate", [0.0, 10.0, 11.0])
def test_turns_refuse_a_rate_without_bound(rate: float) -> None:
    with pytest.raises(ValueError, match="what is served at most"):
        Turns(turn_s=0.5, call_s=0.1).sojourn(rate)


def test_one_number_of_callers_does_not_tell_two_times() -> None:
    with pytest.raises(ValueError, match="two times"):
        fit_turns([8, 8], [1.0, 1.0])
