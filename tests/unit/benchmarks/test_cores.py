"""How the cores are divided between the servers and the load that measures them."""

from __future__ import annotations

import os

import pytest

from benchmarks.cores import apart, divide


@pytest.mark.parametrize(("cores", "load"), [(3, {2}), (4, {3}), (8, {6, 7}), (16, {12, 13, 14, 15})])
def test_the_load_has_cores_of_its_own_where_there_are_more_than_two(cores, load):
    divided = divide(range(cores))
    assert divided.load == load
    assert divided.servers == set(range(cores)) - load
    assert divided.are_apart


@pytest.mark.parametrize("cores", [1, 2])
def test_it_shares_them_where_there_are_not(cores):
    divided = divide(range(cores))
    assert divided.servers == divided.load == set(range(cores))
    assert not divided.are_apart


def test_this_thread_has_all_its_cores_again_afterwards():
    before = os.sched_getaffinity(0)
    with apart() as cores:
        assert os.sched_getaffinity(0) == cores.servers
        with cores.for_load():
            assert os.sched_getaffinity(0) == cores.load
        assert os.sched_getaffinity(0) == cores.servers
    assert os.sched_getaffinity(0) == before
