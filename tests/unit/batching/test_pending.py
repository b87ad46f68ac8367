"""The queue: its order, its bounds, its fairness, and that it loses nothing."""

from __future__ import annotations

import pytest

from samplerd_server.batching.pending import Pending
from samplerd_server.batching.ticket import AGING_S, HORIZON_S, NO_DEADLINE
from tests.support.requests import ticket

MANY = 1 << 40


def queue_of(*tickets) -> Pending:
    pending = Pending()
    for one in tickets:
        pending.add(one)
    return pending


def test_an_empty_queue_gives_nothing():
    assert Pending().take(10, MANY) == []


def test_counts_follow_what_waits():
    pending = queue_of(ticket(rows=2, vocab_size=3), ticket(rows=5, vocab_size=7, connection="b"))
    assert (len(pending), pending.rows, pending.bytes) == (2, 7, 4 * (6 + 35))
    assert len(pending.take(2, MANY)) == 1
    assert (len(pending), pending.rows, pending.bytes) == (1, 5, 4 * 35)
    pending.take(10, MANY)
    assert (len(pending), pending.rows, pending.bytes) == (0, 0, 0)


def test_equals_leave_in_the_order_of_arrival():
    tickets = [ticket() for _ in range(20)]
    pending = queue_of(*tickets)
    assert pending.take(7, MANY) == tickets[:7]
    assert pending.take(100, MANY) == tickets[7:]


def test_the_earliest_deadline_goes_first_then_priority_then_arrival():
    late = ticket(arrival=0.0, deadline=9.0)
    plain = ticket(arrival=0.2)
    sooner = ticket(arrival=0.1, deadline=3.0)
    preferred = ticket(arrival=0.2, priority=1)
    pending = queue_of(late, plain, sooner, preferred)
    assert pending.take(10, MANY) == [sooner, late, preferred, plain]


def test_a_far_deadline_counts_as_the_horizon():
    first, second = ticket(arrival=0.0, deadline=NO_DEADLINE), ticket(arrival=0.1, deadline=0.1 + 10 * HORIZON_S)
    assert queue_of(second, first).take(2, MANY) == [first, second]


def test_a_step_of_priority_is_worth_a_fixed_wait_so_nobody_starves():
    humble = ticket(arrival=0.0, priority=-100)
    newcomers = [ticket(arrival=arrival, priority=100) for arrival in (200 * AGING_S - 0.01, 200 * AGING_S + 0.01)]
    assert queue_of(*newcomers, humble).take(3, MANY) == [newcomers[0], humble, newcomers[1]]


def test_rows_and_bytes_are_bounds():
    pending = queue_of(*(ticket(rows=3, vocab_size=4) for _ in range(5)))
    assert len(pending.take(8, MANY)) == 2
    assert len(pending.take(100, 2 * 48 + 47)) == 2
    assert len(pending.take(100, 48)) == 1


def test_a_ticket_larger_than_a_batch_is_a_batch_of_its_own():
    before, large, after = ticket(), ticket(rows=9, arrival=0.1), ticket(arrival=0.2)
    pending = queue_of(before, large, after)
    assert pending.take(4, MANY) == [before]
    assert pending.take(4, MANY) == [large]
    assert pending.take(4, MANY) == [after]
    pending = queue_of(ticket(vocab_size=100))
    assert len(pending.take(4, 10)) == 1


def test_a_large_ticket_is_not_overtaken_for_ever():
    large = ticket(rows=4, connection="large")
    pending = queue_of(large, *(ticket(arrival=0.01) for _ in range(3)))
    for arrival in range(100):
        pending.add(ticket(arrival=arrival / 100 + 0.02, connection=str(arrival % 3)))
        if large in pending.take(4, MANY):
            return
    pytest.fail("the large ticket still waits")


def test_when_not_all_fit_every_connection_gets_its_share():
    flood = [ticket(arrival=0.0, connection="flood") for _ in range(100)]
    others = [ticket(arrival=1.0, connection=name) for name in ("b", "c", "d") for _ in range(2)]
    batch = queue_of(*flood, *others).take(16, MANY)
    assert len(batch) == 16
    # A quarter each is 4; the three others leave 2 each of theirs to the flood.
    assert set(others) <= set(batch)


def test_when_all_fit_nobody_is_held_to_a_share():
    flood = [ticket(connection="flood") for _ in range(15)]
    other = ticket(connection="other")
    assert len(queue_of(*flood, other).take(16, MANY)) == 16


def test_more_connections_than_rows_still_make_a_batch():
    pending = queue_of(*(ticket(connection=str(n), arrival=float(n)) for n in range(50)))
    assert [one.connection for one in pending.take(8, MANY)] == [str(n) for n in range(8)]


def test_oldest_and_nearest():
    tickets = [
        ticket(arrival=3.0, deadline=50.0),
        ticket(arrival=1.0, connection="b"),
        ticket(arrival=2.0, deadline=9.0),
    ]
    pending = queue_of(*tickets)
    assert (pending.oldest_arrival(), pending.nearest_deadline()) == (1.0, 9.0)


def test_a_connection_without_tickets_is_forgotten():
    pending = Pending()
    for number in range(1000):
        pending.add(ticket(connection=str(number)))
        pending.take(1, MANY)
    assert pending._connections == {}
