"""The device thread: in order, one at a time, and never ended by a batch."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from samplerd_server.engine.device_thread import DeviceThread, Outcome
from samplerd_server.sampling.resumed import ResumedDraft
from samplerd_server.sampling.rows import ROW, DraftBatch, RowBatch, new_results
from tests.support.engine import HeldSampler


def batch(rows: int = 1) -> RowBatch:
    return RowBatch(rows=np.zeros(rows, ROW), samples=rows)


class Sampler:
    name = "scripted"
    capabilities: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.is_closed = False

    def warm_up(self):
        pass

    def sample(self, batch):
        assert not self.is_closed
        self.threads.add(threading.current_thread().name)
        if len(batch) == 13:
            raise RuntimeError("thirteen rows")
        return new_results(batch)

    def close(self):
        self.is_closed = True


async def run(device: DeviceThread, *sizes: int) -> list[Outcome]:
    loop = asyncio.get_running_loop()
    outcomes: list[Outcome] = []
    done = asyncio.Event()

    def deliver(outcome: Outcome) -> None:
        assert asyncio.get_running_loop() is loop
        outcomes.append(outcome)
        if len(outcomes) == len(sizes):
            done.set()

    for size in sizes:
        device.submit(batch(size), deliver)
    await asyncio.wait_for(done.wait(), 30)
    return outcomes


async def test_batches_are_run_in_order_on_one_thread_and_delivered_on_the_loop():
    sampler = Sampler()
    device = DeviceThread(sampler)
    device.start(asyncio.get_running_loop())
    outcomes = await run(device, *range(1, 13))
    assert [len(outcome.results.status) for outcome in outcomes] == list(range(1, 13))
    assert all(outcome.compute_s >= 0 for outcome in outcomes)
    assert sampler.threads == {"samplerd-device"}
    assert device.stop(30)
    assert sampler.is_closed


async def test_a_sampler_that_raises_fails_its_batch_and_the_thread_lives(caplog):
    device = DeviceThread(Sampler())
    device.start(asyncio.get_running_loop())
    with caplog.at_level(logging.ERROR):
        outcomes = await run(device, 1, 13, 2)
    assert [outcome.results is None for outcome in outcomes] == [False, True, False]
    assert "thirteen rows" in caplog.text
    assert device.stop(30)


def test_a_batch_can_be_run_by_the_caller(caplog):
    sampler = Sampler()
    device = DeviceThread(sampler)
    assert len(device.run(batch(3)).results.status) == 3
    assert sampler.threads == {threading.current_thread().name}
    with caplog.at_level(logging.ERROR):
        assert device.run(batch(13)).results is None


def test_time_in_which_the_thread_waits_is_no_processor_time():
    class Waiting(Sampler):
        def sample(self, batch):
            threading.Event().wait(0.1)
            return super().sample(batch)

    outcome = DeviceThread(Waiting()).run(batch())
    assert outcome.compute_s >= 0.1
    assert outcome.thread_s is not None
    assert 0.0 < outcome.thread_s < 0.05


def test_the_readings_of_processor_time_are_not_timed(monkeypatch):
    """Each is a system call, after which a busy machine may run something else for milliseconds."""
    now = [100.0]

    def thread_time():
        now[0] += 1.0
        return 0.25

    own = SimpleNamespace(monotonic=lambda: now[0], thread_time=thread_time)
    monkeypatch.setattr("samplerd_server.engine.device_thread.time", own)
    outcome = DeviceThread(Sampler()).run(batch())
    assert now == [102.0]
    assert outcome.compute_s == 0.0


def test_the_age_of_the_running_batch_grows_and_is_0_after_it(monkeypatch):
    clock = iter((100.0, 100.0, 100.5, 102.0, 103.0))
    ages: list[float] = []

    class Looking(Sampler):
        def sample(self, rows):
            ages.extend((device.batch_age_s, device.batch_age_s, device.batch_age_s))
            return super().sample(rows)

    device = DeviceThread(Looking())
    monkeypatch.setattr(
        "samplerd_server.engine.device_thread.time",
        SimpleNamespace(monotonic=lambda: next(clock), thread_time=lambda: 0.0),
    )
    assert device.batch_age_s == 0
    device.run(batch(1))
    assert ages == [0.0, 0.5, 2.0]
    assert device.batch_age_s == 0


async def test_what_was_submitted_is_finished_before_the_stop():
    device = DeviceThread(Sampler())
    device.start(asyncio.get_running_loop())
    outcomes: list[Outcome] = []
    for size in range(1, 6):
        device.submit(batch(size), outcomes.append)
    assert device.stop(30)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(outcomes) == 5


async def test_an_idle_thread_keeps_no_batch_alive():
    class Owner:
        pass

    device = DeviceThread(Sampler())
    device.start(asyncio.get_running_loop())
    owner = Owner()
    freed = threading.Event()
    weakref.finalize(owner, freed.set)
    done = asyncio.Event()
    device.submit(RowBatch(rows=np.zeros(1, ROW), samples=1, keepalive=owner), lambda outcome: done.set())
    del owner
    await asyncio.wait_for(done.wait(), 30)
    assert freed.wait(30), "the thread waits for the next batch with this one in its hand"
    assert device.stop(30)


async def test_the_stop_waits_no_longer_than_it_is_told(caplog):
    held = HeldSampler()
    device = DeviceThread(held)
    device.start(asyncio.get_running_loop())
    outcomes: list[Outcome] = []
    device.submit(batch(), outcomes.append)
    held.wait_entered()
    assert not device.stop(0.01)
    held.open()
    assert device.stop(30)


def test_a_batch_that_ends_after_its_loop_is_dropped_quietly():
    held = HeldSampler()
    device = DeviceThread(held)
    loop = asyncio.new_event_loop()
    device.start(loop)
    device.submit(batch(), lambda outcome: None)
    held.wait_entered()
    loop.close()
    held.open()
    # An exception in the thread would fail the test as a warning.
    assert device.stop(30)


class EarlySampler(Sampler):
    """Begins batches at once, and lets each end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.has_begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    numbers: ClassVar = {}
    regions = None

    def note_rows(self, memory, rows):
        pass

    def begin(self, batch):
        self.threads.add(threading.current_thread().name)
        self.begun.append(len(batch))
        self.has_begun.release()
        if len(batch) == 13:
            raise RuntimeError("thirteen rows")

        def finish():
            assert self.may_end.acquire(timeout=30)
            if len(batch) == 14:
                raise RuntimeError("fourteen rows")
            return new_results(batch)

        return finish

    def begin_drafts(self, batch):
        return tuple if isinstance(batch, DraftBatch) else None  # which makes an empty one


async def test_drafts_begin_early_or_are_run():
    sampler = EarlySampler()
    sampler.resume_draft = lambda own: None
    device = DeviceThread(sampler)
    device.start(asyncio.get_running_loop())
    outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
    sequence = SimpleNamespace(target=batch(3))
    for own in (DraftBatch(sequences=(sequence,)), ResumedDraft(sequence)):
        device.submit(own, outcomes.put_nowait)
    early, sliced = [await asyncio.wait_for(outcomes.get(), 30) for _ in range(2)]
    assert (early.results, early.has_failed) == ((), False)
    assert (sliced.results, sliced.has_failed) == (None, False), "its next slice goes on"
    assert device.stop(30)


async def test_a_batch_begins_before_the_one_before_has_ended():
    sampler = EarlySampler()
    device = DeviceThread(sampler)
    device.start(asyncio.get_running_loop())
    outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
    for size in (1, 2):
        device.submit(batch(size), outcomes.put_nowait)
    for _ in range(2):
        assert await asyncio.to_thread(sampler.has_begun.acquire, timeout=30)
    assert sampler.begun == [1, 2]
    assert outcomes.empty()
    assert device.batch_age_s > 0
    for size in (1, 2):
        sampler.may_end.release()
        outcome = await asyncio.wait_for(outcomes.get(), 30)
        assert len(outcome.results.status) == size
    assert sampler.threads == {"samplerd-device"}
    assert device.stop(30)
    assert device.batch_age_s == 0
    assert sampler.is_closed


async def test_batches_that_begin_early_are_timed_one_after_the_other():
    sampler = EarlySampler()
    device = DeviceThread(sampler)
    device.start(asyncio.get_running_loop())
    outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
    for size in (1, 2):
        device.submit(batch(size), outcomes.put_nowait)
    sampler.may_end.release(2)
    first, second = [await asyncio.wait_for(outcomes.get(), 30) for _ in range(2)]
    assert second.began_s >= first.began_s + first.compute_s
    assert device.stop(30)


async def test_early_batches_fail_alone_and_all_are_delivered_in_order(caplog):
    sampler = EarlySampler()
    sampler.may_end.release(10)
    device = DeviceThread(sampler)
    device.start(asyncio.get_running_loop())
    with caplog.at_level(logging.ERROR):
        outcomes = await run(device, 1, 13, 2, 14, 3)
    assert [None if own.results is None else len(own.results.status) for own in outcomes] == [1, None, 2, None, 3]
    assert [own.has_failed for own in outcomes] == [False, True, False, True, False]
    assert "thirteen rows" in caplog.text
    assert "fourteen rows" in caplog.text
    assert device.stop(30)


async def test_a_device_whose_batch_does_not_end_is_left(caplog):
    sampler = EarlySampler()
    device = DeviceThread(sampler)
    device.start(asyncio.get_running_loop())
    outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
    device.submit(batch(1), outcomes.put_nowait)
    assert await asyncio.to_thread(sampler.has_begun.acquire, timeout=30)
    assert not device.stop(0.05)
    assert not sampler.is_closed
    sampler.may_end.release()
    await asyncio.wait_for(outcomes.get(), 30)
