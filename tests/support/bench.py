"""A batcher with a device, a loop and a clock that do as the test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from samplerd_server.batching.batcher import Batcher
from samplerd_server.batching.cost_model import CostModel
from samplerd_server.batching.queue import TicketQueue
from samplerd_server.batching.slicer import Slicer
from samplerd_server.batching.ticket import Ticket
from samplerd_server.config import BatchingConfig
from samplerd_server.metrics.metrics import Metrics
from tests.support.engine import ManualDevice
from tests.support.requests import ticket


class ManualLoop:
    """Runs callbacks a turn at a time; timers fire when the test says."""

    def __init__(self) -> None:
        self.ready: list[Any] = []
        self.timers: list[SimpleNamespace] = []

    def call_soon(self, callback: Any, *arguments: Any) -> None:
        self.ready.append((callback, arguments))

    def call_later(self, delay: float, callback: Any, *arguments: Any) -> SimpleNamespace:
        timer = SimpleNamespace(delay=delay, callback=callback, arguments=arguments)
        timer.cancel = lambda: self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def turn(self) -> None:
        ready, self.ready = self.ready, []
        for callback, arguments in ready:
            callback(*arguments)


class Bench:
    """A batcher, and everything around it in the test's hand."""

    def __init__(self, monkeypatch: Any, *, event_loop_draw_limit_s: float = 0.0, **config: Any) -> None:
        self.now = 1000.0
        monkeypatch.setattr("samplerd_server.batching.batcher.time", SimpleNamespace(monotonic=lambda: self.now))
        self.loop = ManualLoop()
        self.queue = TicketQueue()
        self.cost_model = CostModel()
        self.device = ManualDevice(event_loop_draw_limit_s)
        self.metrics = Metrics()
        self.slicer = Slicer(BatchingConfig(**config), cost_model=self.cost_model, metrics=self.metrics)
        self.batcher = Batcher(
            BatchingConfig(**config),
            queue=self.queue,
            slicer=self.slicer,
            cost_model=self.cost_model,
            engine=self.device,
            metrics=self.metrics,
            loop=self.loop,
        )

    def send(self, **fields: Any) -> Ticket:
        """Enqueue a ticket that arrives now; deadlines count from now."""
        if "deadline" in fields:
            fields["deadline"] += self.now
        one = ticket(arrival=self.now, **fields)
        self.batcher.enqueue(one)
        return one

    def finish(self, **fields: Any) -> None:
        self.device.finish(**fields)
        self.loop.turn()
