"""How cores are shared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.process.workers.cores import thread_variables, threads_beside_doors, threads_per_worker


@pytest.mark.parametrize(
    ("workers", "cores", "threads"), [(2, 2, 1), (2, 1, 1), (2, 4, 1), (2, 8, 3), (4, 64, 15), (3, 16, 4), (64, 8, 1)]
)
def test_a_worker_draws_with_its_share_less_one(workers, cores, threads):
    assert threads_per_worker(0, workers, cores) == threads


@given(st.integers(1, 256), st.integers(1, 1024))
def test_workers_with_a_core_each_never_ask_for_more_than_there_are(workers, cores):
    threads = threads_per_worker(0, workers, cores)
    assert threads >= 1
    # One event loop and the threads; with one core a worker the two take turns.
    assert workers * (threads + 1) <= max(cores, 2 * workers)


@given(st.integers(1, 1024), st.integers(1, 256), st.integers(1, 1024))
def test_what_is_configured_holds(threads, workers, cores):
    assert threads_per_worker(threads, workers, cores) == threads


@pytest.mark.parametrize(("doors", "cores", "threads"), [(1, 1, 1), (2, 2, 1), (2, 4, 1), (2, 8, 5), (8, 16, 7)])
def test_an_engine_draws_with_the_cores_that_are_left(doors, cores, threads):
    assert threads_beside_doors(0, doors, cores) == threads
    assert threads_beside_doors(5, doors, cores) == 5


def test_variables_that_somebody_set_are_left_alone():
    made = thread_variables(3, {"OMP_NUM_THREADS": "7"})
    assert "OMP_NUM_THREADS" not in made
    assert set(made.values()) == {"3"}
    assert "MKL_NUM_THREADS" in made
