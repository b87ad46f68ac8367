"""The queue against a naive model: nothing lost, nothing twice, all counters right, whatever comes and goes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from samplerd_server.batching.queue import TicketQueue
from tests.support.requests import ticket


class Queue(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = TicketQueue()
        self.waiting: list = []  # in order of arrival
        self.now = 0.0

    @rule(
        rows=st.integers(1, 6),
        vocab_size=st.integers(1, 4),
        connection=st.sampled_from("abc"),
        priority=st.sampled_from([-100, 0, 0, 1, 100]),
        due=st.none() | st.floats(0, 20),
    )
    def arrive(self, rows, vocab_size, connection, priority, due):
        self.now += 0.05
        one = ticket(
            rows=rows,
            vocab_size=vocab_size,
            arrival=self.now,
            connection=connection,
            priority=priority,
            **({} if due is None else {"deadline": self.now + due}),
        )
        self.queue.add(one)
        self.waiting.append(one)

    @rule(max_rows=st.integers(1, 12), max_bytes=st.integers(4, 200))
    def take(self, max_rows, max_bytes):
        batch = self.queue.take(max_rows, max_bytes)
        assert bool(batch) == bool(self.waiting)
        if not batch:
            return
        rows = sum(one.request.rows for one in batch)
        size = sum(one.request.size_bytes for one in batch)
        assert len(batch) == 1 or (rows <= max_rows and size <= max_bytes)
        # The most urgent of all is always in it, so nothing can wait for ever.
        assert batch[0] is min(self.waiting, key=lambda one: one.urgency)
        # Within a connection nobody overtakes: what left was more urgent than what stays.
        for name in "abc":
            left = [one.urgency for one in batch if one.connection == name]
            stays = [one.urgency for one in self.waiting if one.connection == name and one not in batch]
            assert not left or not stays or max(left) <= min(stays)
        # Work-conserving: the most urgent of those that stay did not fit.
        stays = [one for one in self.waiting if one not in batch]
        if stays:
            next_up = min(stays, key=lambda one: one.urgency).request
            assert rows + next_up.rows > max_rows or size + next_up.size_bytes > max_bytes
        for one in batch:
            self.waiting.remove(one)  # raises for what was not there, or twice

    @rule()
    def take_all(self):
        batch = self.queue.take(10**6, 10**9)
        assert [id(one) for one in batch] == [id(one) for one in sorted(self.waiting, key=lambda one: one.urgency)]
        self.waiting.clear()

    @invariant()
    def counts_are_right(self):
        assert len(self.queue) == len(self.waiting)
        assert self.queue.rows == sum(one.request.rows for one in self.waiting)
        assert self.queue.bytes == sum(one.request.size_bytes for one in self.waiting)
        if self.waiting:
            assert self.queue.oldest_arrival() == min(one.arrival for one in self.waiting)
            assert self.queue.nearest_deadline() == min(one.deadline for one in self.waiting)


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
