"""The soak notices threads that were left behind, and those of pools beyond their bounds."""

from __future__ import annotations

import os
import threading
import time

import pytest

from benchmarks import soak_leaks
from benchmarks.soak_leaks import BEYOND_POOLS, lasting_threads, rests_of, settled, threads_beyond_pools, threads_of
from samplerd_server.core.named_thread import MOST_HELPERS, NamedThread, helpers, named_pool

PID = os.getpid()


@pytest.fixture
def gate():
    opened = threading.Event()
    yield opened
    opened.set()


def settled_count():
    """Count the threads that belong to no pool, once those that other tests have ended are gone from the system."""
    counts = [-1]
    while counts[-1] != lasting_threads(PID):
        counts.append(lasting_threads(PID))
        time.sleep(0.1)
    return counts[-1]


def await_count(expected):
    """Wait until so many threads are left that belong to no pool: the system forgets one soon after it has ended."""
    end = time.monotonic() + 30
    while lasting_threads(PID) != expected:
        assert time.monotonic() < end, threads_of(PID)
        time.sleep(0.01)


def fill(pool, gate, count):
    """Have so many threads of a pool wait at the gate."""
    begun = threading.Semaphore(0)

    def wait():
        begun.release()
        gate.wait(60)

    for _ in range(count):
        pool.submit(wait)
    for _ in range(count):
        assert begun.acquire(timeout=30)


def test_a_thread_is_counted_by_its_name(gate):
    before = settled_count()
    begun = threading.Event()

    def wait():
        begun.set()
        gate.wait(60)

    thread = NamedThread(target=wait, name="samplerd-left-behind", daemon=True)
    thread.start()
    assert begun.wait(30)
    assert threads_of(PID)["left-behind"] == 1
    assert lasting_threads(PID) == before + 1
    gate.set()
    thread.join()
    await_count(before)


def test_threads_of_a_pool_count_beyond_its_bound_only(gate, monkeypatch):
    before = settled_count()
    with helpers() as pool:
        fill(pool, gate, MOST_HELPERS)
        assert threads_of(PID)["helper"] == MOST_HELPERS
        assert lasting_threads(PID) == before
        assert threads_beyond_pools(PID) == 0
        monkeypatch.setitem(soak_leaks._MOST_OF_POOL, "helper", MOST_HELPERS - 2)
        assert threads_beyond_pools(PID) == 2
        gate.set()


def test_threads_of_an_unknown_pool_count(gate):
    before = settled_count()
    with named_pool("samplerd-other", 3) as pool:
        fill(pool, gate, 3)
        assert threads_of(PID)["other"] == 3
        assert lasting_threads(PID) == before + 3
        gate.set()


def test_a_thread_with_the_name_of_a_pool_s_thread_is_none_of_the_pool(gate):
    before = settled_count()
    with helpers() as pool:
        fill(pool, gate, 1)
        begun = threading.Event()

        def wait():
            begun.set()
            gate.wait(60)

        thread = NamedThread(target=wait, name="samplerd-helper_0", daemon=True)
        thread.start()
        assert begun.wait(30)
        assert (threads_of(PID)["helper"], threads_of(PID)["helper_0"]) == (1, 1)
        assert lasting_threads(PID) == before + 1
        gate.set()
    thread.join()


def rest(gate):
    """Look every moment whether the gate is open."""
    while not gate.wait(0.01):
        pass


@pytest.mark.parametrize(("stuck", "beyond"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2)])
def test_threads_beyond_the_bound_of_grpcio_s_pool_count_if_they_look_for_no_work(gate, monkeypatch, stuck, beyond):
    monkeypatch.setattr(soak_leaks, "_GROWING_POOL", "seekers")
    monkeypatch.setitem(soak_leaks._MOST_OF_POOL, "seekers", 2)
    works = [gate.wait] * stuck + [lambda: rest(gate)] * (4 - stuck)
    for work in works:
        NamedThread(target=work, name="samplerd-seekers", daemon=True).start()
    earlier, now = {}, rests_of([PID])
    while len(earlier) < len(works) or sum(earlier[thread] == count for thread, count in now.items()) != stuck:
        time.sleep(0.1)
        earlier, now = now, rests_of([PID])
    assert threads_beyond_pools(PID) == 2
    assert threads_beyond_pools(PID, earlier) == beyond


BEFORE = {"threads": 9, "descriptors": 29, BEYOND_POOLS: 0}


async def settle(**ends_after_s):
    """Settle a server that has one more of each of these than before, for so many seconds; tell how long that took."""
    now = 0.0

    async def pass_time(seconds):
        nonlocal now
        now += seconds

    def count():
        return {name: number + (now < ends_after_s.get(name, 0)) for name, number in BEFORE.items()}

    return await settled(count, BEFORE, pass_time), now


@pytest.mark.parametrize(
    ("ends_after_s", "took_s"), [({}, 0), ({"descriptors": 20}, 20), ({"threads": 10, BEYOND_POOLS: 15}, 15)]
)
async def test_what_ends_in_time_is_no_leak(ends_after_s, took_s):
    assert await settle(**ends_after_s) == (BEFORE, took_s)


@pytest.mark.parametrize("name", BEFORE)
async def test_what_never_ends_is_a_leak(name):
    found, _ = await settle(**{name: float("inf")})
    assert found == {**BEFORE, name: BEFORE[name] + 1}
