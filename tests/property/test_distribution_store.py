"""A store against a model of it: a dictionary, a clock and a sum. The shared one as several processes use it."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from samplerd_server.core.enums import Dtype
from samplerd_server.core.errors import AlreadyExistsError, FullError, NotFoundError
from samplerd_server.core.rows import DenseRows
from samplerd_server.distributions.folder import FolderStore
from samplerd_server.distributions.segment import size_of, write_segment
from samplerd_server.distributions.store import MemoryStore
from samplerd_server.metrics.metrics import Metrics
from tests.support.cdf_index import describe, segment_decoder

MAX_COUNT, MAX_BYTES = 4, 4096
NAMES = st.sampled_from(["a", "b", "A.1", "b-", "_"])


class Model:
    """What is known of one distribution."""

    def __init__(self, numbers: bytes, ttl_s: float, used: float, size: int) -> None:
        self.numbers, self.ttl_s, self.used, self.size = numbers, ttl_s, used, size


class StoreMachine(RuleBasedStateMachine):
    """The store, and what it must agree with."""

    def make_stores(self, **arguments: Any) -> list[Any]:
        return [MemoryStore(**arguments)]

    @property
    def store(self) -> Any:
        """Each call goes to the next of the stores."""
        self.stores.append(self.stores.pop(0))
        return self.stores[-1]

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.events = Metrics().distribution_events
        self.stores = self.make_stores(
            max_count=MAX_COUNT,
            max_bytes=MAX_BYTES,
            clock=lambda: self.now,
            events=self.events,
            segment_decoder=segment_decoder(),
        )
        self.model: dict[str, Model] = {}
        self.held: list[tuple[Any, bytes, int, str]] = []  # what requests draw from, whatever becomes of its name
        self.created = 0

    def expire(self) -> None:
        self.model = {name: own for name, own in self.model.items() if own.used + own.ttl_s > self.now}

    def taken(self) -> int:
        """Bytes in use: what is there, and what is held of what is not."""
        there = {own.numbers for own in self.model.values()}
        gone = {numbers: size for _, numbers, size, _ in self.held if numbers not in there}
        return sum(own.size for own in self.model.values()) + sum(gone.values())

    @rule(name=NAMES, width=st.integers(1, 400), ttl_s=st.sampled_from([1.0, 5.0, math.inf]))
    def create(self, name: str, width: int, ttl_s: float) -> None:
        for store in self.stores:
            store.free_expired()
        self.expire()
        self.created += 1
        numbers = np.full(width, self.created, "<f4").tobytes()
        own = describe(name, vocab_size=width, ttl_s=ttl_s)
        size = size_of(own, None)
        expected: type[Exception] | None = None
        if len(self.model) >= MAX_COUNT or self.taken() + size > MAX_BYTES:
            expected = FullError
        elif name in self.model:
            expected = AlreadyExistsError
        happened: type[Exception] | None = None
        try:
            store = self.store
            memory = store.allocate(size)
            write_segment(memory, own, DenseRows(dtype=Dtype.F32, rows=1, vocab_size=width, data=numbers), None)
            store.publish(memory)
            self.model[name] = Model(numbers, ttl_s, self.now, size)
        except (FullError, AlreadyExistsError) as error:
            happened = type(error)
        memory = None
        assert happened is expected

    @rule(name=NAMES)
    def use(self, name: str) -> None:
        self.expire()
        try:
            rows = self.store.find(name)
        except NotFoundError:
            assert name not in self.model
            return
        own = self.model[name]
        own.used = self.now
        assert bytes(rows.data) == own.numbers
        self.held.append((rows, own.numbers, own.size, name))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A request that drew from one is over."""
        at = data.draw(st.integers(0, len(self.held) - 1))
        rows, numbers, _, _ = self.held.pop(at)
        assert bytes(rows.data) == numbers

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.expire()
        try:
            self.store.delete(name)
        except NotFoundError:
            assert name not in self.model
        else:
            del self.model[name]

    @rule(seconds=st.floats(0.1, 3.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def free_expired(self) -> None:
        self.store.free_expired()
        self.expire()

    @invariant()
    def names_are_those_of_the_model(self) -> None:
        if not hasattr(self, "stores"):
            return
        self.expire()
        assert self.store.names() == sorted(self.model)
        assert self.store.count == len(self.model)

    @invariant()
    def what_is_held_is_whole_and_what_is_taken_is_counted(self) -> None:
        if not hasattr(self, "stores"):
            return
        for rows, numbers, _, _ in self.held:
            assert bytes(rows.data) == numbers
        for _ in range(2):  # who sweeps last finds what the others have let go of
            for store in self.stores:
                store.free_expired()
        for store in self.stores:
            assert store.size_bytes == self.taken() <= MAX_BYTES


class FolderMachine(StoreMachine):
    """Three processes' stores on one folder."""

    def make_stores(self, **arguments: Any) -> list[Any]:
        self.folder = tempfile.TemporaryDirectory()
        return [FolderStore(Path(self.folder.name), **arguments) for _ in range(3)]

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            self.held.clear()
            self.stores.clear()
            self.folder.cleanup()


TestFolderStore = FolderMachine.TestCase
TestMemoryStore = StoreMachine.TestCase
TestFolderStore.settings = TestMemoryStore.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
