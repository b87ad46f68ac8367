"""Batches on a card, over its double, which runs work late: the CPU's bits, whatever the card has no room for."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind
from samplerd_server.core.errors import DeviceError
from samplerd_server.sampling.cuda.card import CardLostError, LaunchError, OutOfCardMemoryError
from samplerd_server.sampling.cuda.late_card import LateCard
from samplerd_server.sampling.cuda.sampler import CudaSampler
from samplerd_server.sampling.cuda.scope import is_drawn
from samplerd_server.sampling.rows import new_results
from samplerd_server.sampling.sampler import EarlySampler
from tests.support.gpu_rows import FEW, KEPT, NEVER, changed_rows, rows, same_bits, some_outputs
from tests.support.samplers import encode, make_sampler, outputs, params, request, sparse

ROOM = 4 << 20


def make(device_bytes: int = ROOM, locked_bytes: int = ROOM) -> CudaSampler:
    sampler = CudaSampler(LateCard(), device_bytes=device_bytes, locked_bytes=locked_bytes)
    sampler.warm_up()
    return sampler


@pytest.fixture
def sampler():
    own = make()
    yield own
    own.close()


@pytest.fixture(scope="module")
def lasting():
    own = make()
    yield own
    own.close()


def asked(seed: int, width: int = 600, num_samples: int = 2, **own: Any) -> Any:
    x = np.random.default_rng(seed).normal(size=width)
    return request(x, seed=seed, num_samples=num_samples, params=params(temperature=0.8), **own)


def expect(got: Any, *requests: Any) -> None:
    same_bits(got, make_sampler("numba").sample(pack(requests)))


def counts(sampler: CudaSampler) -> tuple[int, int, int]:
    own = sampler.card.counts
    return own.copies, own.launches, own.waits


def is_empty(sampler: CudaSampler) -> bool:
    return (sampler.device.used_bytes, sampler.locked.used_bytes, sampler.in_flight) == (0, 0, 0)


def test_a_plain_batch_is_one_copy_two_launches_and_one_wait(sampler) -> None:
    requests = [asked(seed) for seed in range(3)]
    finish = sampler.begin(pack(requests))
    assert counts(sampler) == (1, 2, 0), "beginning does not wait"
    assert sampler.in_flight == 1
    expect(finish(), *requests)
    assert counts(sampler) == (1, 2, 1)
    assert is_empty(sampler)


def test_lists_and_outputs_are_not_copied_to_the_device(sampler) -> None:
    own = asked(1, outputs=outputs(LogprobKind.RAW, top_n=3, named=[5, 7], kept=True))
    biased = request([1.0, 2.0, 0.5], seed=3, params=params(bias_ids=np.array([1]), bias_values=np.array([-2.0])))
    by = encode(np.array([2.0, 1.0, 0.0]), Dtype.F32)
    guided = request([1.0, 2.0, 0.5], seed=3, params=params(guidance_scale=1.5), guidance=by)
    finish = sampler.begin(pack([own, biased, guided]))
    assert sampler.card.counts.copies == 1
    expect(finish(), own, biased, guided)
    assert sampler.card.counts.waits == 1
    assert is_empty(sampler)


def test_what_rows_share_is_copied_once(sampler) -> None:
    source = asked(1, 4_000).source
    requests = [asked(seed, 4_000) for seed in (1, 2, 3)]
    shared = [dataclasses.replace(own, source=source) for own in requests]
    finish = sampler.begin(pack(shared))
    assert 16_000 <= sampler.card.counts.copied_bytes < 16_000 + 256
    expect(finish(), *shared)


def test_two_batches_are_on_the_card_at_once_and_end_in_any_order(sampler) -> None:
    batches = [[asked(seed), asked(seed + 10)] for seed in range(3)]
    finishes = [sampler.begin(pack(own)) for own in batches]
    assert sampler.in_flight == 3
    assert sampler.card.counts.waits == 0
    for at in (1, 0, 2):
        expect(finishes[at](), *batches[at])
    assert is_empty(sampler)


def test_the_double_shows_who_is_too_early(sampler) -> None:
    """Each rule of the double, broken: results are read, and memory is overwritten, before the card has passed."""
    own = asked(1)
    batch = pack([own])
    finish = sampler.begin(batch)
    assert sampler.locked.used_bytes
    [flight] = sampler._flights
    assert flight.assignment.answers.samples.tolist() == [-1, -1], "nothing has run"
    flight.assignment.answers.samples[:] = 7
    finish()  # runs
    begun = sampler.begin(pack([own]))
    [flight] = sampler._flights
    staged = min(sampler.locked._taken)  # the rows, on their way
    ctypes.memset(staged, 0xFF, 2_400)
    assert begun().status.tolist() == [1], "the copy ran late: NaN"


def test_a_copy_without_a_fence_is_not_seen(sampler, monkeypatch) -> None:
    monkeypatch.setattr(sampler.card, "fence", lambda: None)
    assert sampler.sample(pack([asked(1)])).status.tolist() == [1]


def test_rows_that_the_kernels_do_not_draw_are_drawn_beside_those(sampler) -> None:
    rest = sparse([1, 2], [0.5, 1.5], 0.3, 50, seed=4)
    many = asked(5, num_samples=200)
    requests = [asked(1), rest, asked(2), many]
    expect(sampler.sample(pack(requests)), *requests)
    assert sampler.card.counts.launches == 2


def test_rows_of_weights_in_every_dtype(sampler) -> None:
    requests = [
        request(np.abs(np.random.default_rng(3).normal(size=70)), dtype, kind=InputKind.PROBABILITIES, seed=int(dtype))
        for dtype in Dtype
    ]
    expect(sampler.sample(pack(requests)), *requests)


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(rows(wanted=some_outputs(), most=2), rows(parameters=FEW, wanted=st.just(KEPT), most=1), changed_rows())
)
def test_any_mix_has_the_cpus_bits_and_gives_all_memory_back(lasting, mix) -> None:
    requests = [row.ask() for some in mix for row in some]
    waits = lasting.card.counts.waits
    expect(lasting.sample(pack(requests)), *requests)
    assert lasting.card.counts.waits - waits <= 1
    assert is_empty(lasting)


def test_a_batch_that_lacks_memory_is_split(caplog) -> None:
    sampler = make(device_bytes=24 << 10)
    requests = [asked(seed, 1_000, outputs=outputs(LogprobKind.SCALED)) for seed in range(8)]
    expect(sampler.sample(pack(requests)), *requests)
    assert sampler.card.counts.copies == 2, "each half"
    assert is_empty(sampler)
    sampler.close()


@pytest.mark.parametrize("sizes", [(8 << 10, ROOM), (ROOM, 8 << 10)], ids=["device", "locked"])
def test_rows_that_do_not_fit_alone_are_drawn_by_the_cpu(sizes) -> None:
    sampler = make(*sizes)
    requests = [asked(1, 3_000), asked(2, 40), asked(3, 3_000)]
    expect(sampler.sample(pack(requests)), *requests)
    assert 0 < sampler.card.counts.copied_bytes <= 512, "the row that fits was drawn on the card"
    assert is_empty(sampler)
    sampler.close()


def test_a_batch_waits_for_the_memory_of_the_one_before() -> None:
    sampler = make(device_bytes=24 << 10)
    first, second = asked(1, 3_000), asked(2, 3_000)
    begun = sampler.begin(pack([first]))
    expect(sampler.sample(pack([second])), second)
    assert sampler.card.counts.launches == 4, "neither was drawn by the CPU"
    expect(begun(), first)
    assert is_empty(sampler)
    sampler.close()


@pytest.mark.parametrize("function", ["copy", "fence", "launch", "mark"])
def test_a_batch_that_the_card_refuses_is_drawn_by_the_cpu(sampler, caplog, function) -> None:
    sampler.card.failures[function] = LaunchError("too many resources")
    with caplog.at_level(logging.WARNING):
        expect(sampler.sample(pack([asked(1), asked(2)])), asked(1), asked(2))
    assert "the card refused a batch, which the CPU drew: too many resources" in caplog.text
    assert is_empty(sampler)
    launches = sampler.card.counts.launches
    expect(sampler.sample(pack([asked(3)])), asked(3))
    assert sampler.card.counts.launches == launches + 2, "the card goes on"


@pytest.mark.parametrize("function", ["copy", "launch", "wait"])
def test_once_the_card_is_lost_the_cpu_draws(sampler, caplog, function) -> None:
    requests = [[asked(seed), asked(seed + 10)] for seed in range(3)]
    before = sampler.begin(pack(requests[0]))
    sampler.card.failures[function] = CardLostError("an illegal address")
    with caplog.at_level(logging.WARNING):
        now = sampler.begin(pack(requests[1]))
        expect(now(), *requests[1])
        expect(before(), *requests[0])
    assert [own.levelname for own in caplog.records] == ["ERROR"], "it is told once"
    assert "the CPU draws until the server is started again: an illegal address" in caplog.text
    copies, launches, _ = counts(sampler)
    expect(sampler.sample(pack(requests[2])), *requests[2])
    assert counts(sampler)[:2] == (copies, launches)
    assert is_empty(sampler)


@pytest.mark.parametrize("function", ["start", "allocate", "allocate_locked"])
def test_a_card_that_cannot_be_used_is_an_error_of_the_start(function) -> None:
    sampler = CudaSampler(LateCard(), device_bytes=1 << 20, locked_bytes=1 << 20)
    sampler.card.failures[function] = OutOfCardMemoryError("no memory")
    with pytest.raises(DeviceError, match="the card cannot be used: no memory; --device-memory is 1048576 bytes"):
        sampler.warm_up()


def test_a_batch_that_the_cpu_draws_sooner_stays_there(sampler, monkeypatch) -> None:
    monkeypatch.setattr(LateCard, "overhead_ns", 97_000)
    monkeypatch.setattr(LateCard, "row_overhead_ns", 3_000)
    own = asked(1)
    expect(sampler.sample(dataclasses.replace(pack([own]), work=99_999)), own)
    assert counts(sampler) == (0, 0, 0)
    for work in (100_000, 0):  # 0 = nobody has priced it
        expect(sampler.sample(dataclasses.replace(pack([own]), work=work)), own)
    assert counts(sampler) == (2, 4, 2)


def test_a_batch_of_many_cheap_rows_stays_on_the_cpu(sampler, monkeypatch) -> None:
    monkeypatch.setattr(LateCard, "row_overhead_ns", 1_000)
    many = [asked(seed, 5) for seed in range(4)]
    expect(sampler.sample(dataclasses.replace(pack(many), work=3_999)), *many)
    assert counts(sampler) == (0, 0, 0)
    expect(sampler.sample(dataclasses.replace(pack(many), work=4_000)), *many)
    assert counts(sampler) == (1, 2, 1)


def test_candidates_with_a_rest_are_left_to_the_cpu_whatever_they_ask_for(sampler) -> None:
    asked_for = ({}, {"top_p": 0.5}, {"top_k": 2}, {"min_p": 0.1}, {"temperature": 0.0})
    own = [
        sparse([1, 2, 7], [0.5, 1.5, 0.2], rest, 50, seed=seed, params=params(**wanted))
        for rest in (0.3, -2.0)
        for seed, wanted in enumerate(asked_for)
    ]
    assert not is_drawn(pack(own).rows).any()
    expect(sampler.sample(pack(own)), *own)
    assert counts(sampler) == (0, 0, 0)
    without = sparse([1, 2, 7], [0.5, 1.5, 0.2], NEVER, 50, seed=9)
    expect(sampler.sample(pack([*own, without])), *own, without)
    assert sampler.card.counts.waits == 1, "candidates beside which there is none are drawn there"


def test_results_are_those_of_this_batch_alone(sampler) -> None:
    assert isinstance(sampler, EarlySampler)
    assert sampler.name == "triton-interpreter + numba"
    batch = pack([asked(1)])
    got = sampler.sample(batch)
    kept = got.samples.copy()
    sampler.sample(pack([asked(2), asked(3)]))
    assert got.samples.tolist() == kept.tolist()
    assert new_results(batch).samples.tolist() == [-1, -1]


def test_what_is_read_of_a_card_has_metrics(sampler) -> None:
    from samplerd_server.metrics.table import ServerTable  # noqa: PLC0415

    names = {field.name for field in dataclasses.fields(ServerTable) if field.name.startswith("device_")}
    sensors = {"device_utilization_ratio", "device_power_watts", "device_temperature_celsius"}
    assert set(sampler.numbers) == names - sensors

    def read() -> dict[str, float]:
        return {name: value() for name, value in sampler.numbers.items()}

    begun = sampler.begin(pack([asked(1)]))
    now = read()
    assert (now["device_batches"], now["device_copies"], now["device_launches"], now["device_waits"]) == (1, 1, 2, 0)
    assert now["device_memory_limit_bytes"] == ROOM
    assert now["device_memory_bytes"] >= now["device_copied_bytes"] >= 2_400
    assert now["device_locked_bytes"] > 2_400
    assert (now["device_kept_bytes"], now["device_lost"]) == (0, 0)
    begun()
    assert (read()["device_batches"], read()["device_memory_bytes"], read()["device_waits"]) == (0, 0, 1)
    sampler.card.failures["copy"] = CardLostError("gone")
    sampler.sample(pack([asked(1)]))
    assert read()["device_lost"] == 1
