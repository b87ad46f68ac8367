"""The queue: its order, its bounds, its fairness, and that it loses nothing."""

from __future__ import annotations

import pytest

from samplerd_server.batching.queue import TicketQueue
from samplerd_server.batching.ticket import AGING_S, HORIZON_S, NO_DEADLINE
from tests.support.requests import ticket

MANY = 1 << 40


def queue_of(*tickets) -> TicketQueue:
    queue = TicketQueue()
    for one in tickets:
        queue.add(one)
    return queue


def test_an_empty_queue_gives_nothing():
    assert TicketQueue().take(10, MANY) == []


def test_counts_follow_what_waits():
    queue = queue_of(ticket(rows=2, vocab_size=3), ticket(rows=5, vocab_size=7, connection="b"))
    assert (len(queue), queue.rows, queue.bytes) == (2, 7, 4 * (6 + 35))
    assert len(queue.take(2, MANY)) == 1
    assert (len(queue), queue.rows, queue.bytes) == (1, 5, 4 * 35)
    queue.take(10, MANY)
    assert (len(queue), queue.rows, queue.bytes) == (0, 0, 0)


def test_each_request_that_a_ticket_stands_for_counts():
    queue = queue_of(ticket(rows=3, requests=3), ticket(), ticket(rows=2, requests=2, connection="b"))
    assert (len(queue), queue.rows) == (6, 6)
    assert len(queue.take(3, MANY)) == 1
    assert len(queue) == queue.rows == 3
    assert len(queue.remove(lambda own: own.connection == "b")) == 1
    assert len(queue) == 1
    queue.take(10, MANY)
    assert len(queue) == 0


def test_equals_leave_in_the_order_of_arrival():
    tickets = [ticket() for _ in range(20)]
    queue = queue_of(*tickets)
    assert queue.take(7, MANY) == tickets[:7]
    assert queue.take(100, MANY) == tickets[7:]


def test_the_earliest_deadline_goes_first_then_priority_then_arrival():
    late = ticket(arrival=0.0, deadline=9.0)
    plain = ticket(arrival=0.2)
    sooner = ticket(arrival=0.1, deadline=3.0)
    preferred = ticket(arrival=0.2, priority=1)
    queue = queue_of(late, plain, sooner, preferred)
    assert queue.take(10, MANY) == [sooner, late, preferred, plain]


def test_a_far_deadline_counts_as_the_horizon():
    first, second = ticket(arrival=0.0, deadline=NO_DEADLINE), ticket(arrival=0.1, deadline=0.1 + 10 * HORIZON_S)
    assert queue_of(second, first).take(2, MANY) == [first, second]


def test_a_step_of_priority_is_worth_a_fixed_wait_so_nobody_starves():
    humble = ticket(arrival=0.0, priority=-100)
    newcomers = [ticket(arrival=arrival, priority=100) for arrival in (200 * AGING_S - 0.01, 200 * AGING_S + 0.01)]
    assert queue_of(*newcomers, humble).take(3, MANY) == [newcomers[0], humble, newcomers[1]]


def test_rows_and_bytes_are_bounds():
    queue = queue_of(*(ticket(rows=3, vocab_size=4) for _ in range(5)))
    assert len(queue.take(8, MANY)) == 2
    assert len(queue.take(100, 2 * 48 + 47)) == 2
    assert len(queue.take(100, 48)) == 1


def test_a_ticket_larger_than_a_batch_is_a_batch_of_its_own():
    before, large, after = ticket(), ticket(rows=9, arrival=0.1), ticket(arrival=0.2)
    queue = queue_of(before, large, after)
    assert queue.take(4, MANY) == [before]
    assert queue.take(4, MANY) == [large]
    assert queue.take(4, MANY) == [after]
    queue = queue_of(ticket(vocab_size=100))
    assert len(queue.take(4, 10)) == 1


def test_a_large_ticket_is_not_overtaken_for_ever():
    large = ticket(rows=4, connection="large")
    queue = queue_of(large, *(ticket(arrival=0.01) for _ in range(3)))
    for arrival in range(100):
        queue.add(ticket(arrival=arrival / 100 + 0.02, connection=str(arrival % 3)))
        if large in queue.take(4, MANY):
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
    queue = queue_of(*(ticket(connection=str(n), arrival=float(n)) for n in range(50)))
    assert [one.connection for one in queue.take(8, MANY)] == [str(n) for n in range(8)]


def test_oldest_and_nearest():
    tickets = [
        ticket(arrival=3.0, deadline=50.0),
        ticket(arrival=1.0, connection="b"),
        ticket(arrival=2.0, deadline=9.0),
    ]
    queue = queue_of(*tickets)
    assert (queue.oldest_arrival(), queue.nearest_deadline()) == (1.0, 9.0)


def test_a_connection_without_tickets_is_forgotten():
    queue = TicketQueue()
    for number in range(1000):
        queue.add(ticket(connection=str(number)))
        queue.take(1, MANY)
    assert queue._connections == {}


def test_dead_tickets_are_removed_and_give_their_place_back():
    tickets = [ticket(rows=rows, vocab_size=3, connection=name) for rows, name in ((1, "a"), (2, "a"), (4, "b"))]
    queue = queue_of(*tickets)
    dead = tickets[1:]
    assert queue.remove(lambda one: one in dead) == dead
    assert (len(queue), queue.rows, queue.bytes, queue.connections) == (1, 1, 12, 1)
    assert queue.work == tickets[0].work
    assert queue.remove(lambda one: one in dead) == []
    assert queue.take(10, MANY) == tickets[:1]


def test_the_order_survives_a_removal():
    tickets = [ticket(priority=number % 3) for number in range(12)]
    whole, queue = queue_of(*tickets), queue_of(*tickets)
    order = whole.take(100, MANY)
    queue.remove(lambda one: one in tickets[::2])
    assert [queue.take(1, MANY)[0] for _ in range(6)] == [one for one in order if one not in tickets[::2]]
