"""Engines that do as a test says: one without a thread, for the batcher, and a sampler for the real device thread."""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from pathlib import Path

import numpy as np

from samplerd_server.core.enums import Dtype
from samplerd_server.engine.device import Device
from samplerd_server.engine.device_thread import DeviceThread, Outcome
from samplerd_server.sampling.decode import decode, read_bytes
from samplerd_server.sampling.rows import RowBatch, RowResults, new_results


def argmax(batch: RowBatch) -> RowResults:
    """Every draw is the row's argmax: enough to see whose row it was."""
    results = new_results(batch)
    for row in batch.rows:
        dtype = Dtype(int(row["dtype"]))
        numbers = decode(read_bytes(int(row["data"]), int(row["width"]) * dtype.itemsize), dtype)
        begin = int(row["sample_at"])
        results.samples[begin : begin + int(row["num_samples"])] = int(np.argmax(numbers))
    return results


class ManualDevice:
    """Keeps what is submitted until the test finishes it."""

    def __init__(self, event_loop_draw_limit_s: float = 0.0) -> None:
        self.event_loop_draw_limit_s = event_loop_draw_limit_s
        self.submitted: list[tuple[RowBatch, Callable[[Outcome], None]]] = []
        self.run_inline: list[RowBatch] = []

    def submit(self, batch: RowBatch, deliver: Callable[[Outcome], None]) -> None:
        self.submitted.append((batch, deliver))

    def run(self, batch: RowBatch) -> Outcome:
        assert not self.submitted, "run while something is submitted"
        self.run_inline.append(batch)
        return Outcome(results=argmax(batch), compute_s=1e-5)

    def sizes(self) -> list[int]:
        """Rows of the batches that are at the device."""
        return [len(batch) for batch, _ in self.submitted]

    def finish(
        self,
        *,
        compute_s: float = 0.001,
        thread_s: float | None = None,
        results: Callable[[RowBatch], RowResults | None] = argmax,
    ) -> None:
        """Finish the oldest batch."""
        batch, deliver = self.submitted.pop(0)
        found = results(batch)
        deliver(Outcome(results=found, compute_s=compute_s, has_failed=found is None, thread_s=thread_s))


class HeldSampler:
    """Computes nothing until it is let; says when a batch has come in."""

    name = "held"
    capabilities: frozenset[str] = frozenset()
    most_draws = 0

    def __init__(self, draw: Callable[[RowBatch], RowResults] = argmax) -> None:
        self._draw = draw
        self._entered = threading.Semaphore(0)
        self._gate = threading.Event()
        self.batches: list[int] = []
        """Rows of every batch that came in."""

    def warm_up(self) -> None:
        pass

    def sample(self, batch: RowBatch) -> RowResults:
        self.batches.append(len(batch))
        self._entered.release()
        assert self._gate.wait(60), "the test never opened the gate"
        return self._draw(batch)

    def wait_entered(self) -> None:
        """Wait until one more batch has come in."""
        assert self._entered.acquire(timeout=30), "no batch came"

    def hold(self) -> None:
        self._gate.clear()

    def open(self) -> None:
        """Let this batch and all to come be computed."""
        self._gate.set()

    def close(self) -> None:
        pass


class StubEngine:
    """`engine.Engine` with a sampler of the test's choice; the device thread is the real one."""

    def __init__(self, sampler: HeldSampler, event_loop_draw_limit_s: float = 0.0) -> None:
        self.device = Device(name="cpu", description="a test")
        self.threads = 1
        self.torch_version = "none"
        self.sampler = sampler
        self.cdf_index_builder = None
        self.event_loop_draw_limit_s = event_loop_draw_limit_s
        self.device_numbers: dict[str, Callable[[], float]] = {}
        self.note_rows = None
        self.regions = None
        self._thread = DeviceThread(sampler)

    def warm_up(self, _spare: Path | None = None) -> float:
        return 0.0

    def link_kernels(self) -> None:
        pass

    def start(self, loop: AbstractEventLoop) -> None:
        self._thread.start(loop)

    def submit(self, batch: RowBatch, deliver: Callable[[Outcome], None]) -> None:
        self._thread.submit(batch, deliver)

    def run(self, batch: RowBatch) -> Outcome:
        return self._thread.run(batch)

    def stop(self, wait_s: float) -> bool:
        return self._thread.stop(wait_s)

    @property
    def device_cpu_s(self) -> float:
        return self._thread.cpu_s

    @property
    def batch_age_s(self) -> float:
        return self._thread.batch_age_s
