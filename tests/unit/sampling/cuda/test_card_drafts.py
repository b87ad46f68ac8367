"""Drafts on a card, over its double, which runs work late: the CPU's verdicts, whatever the card has no room for."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from samplerd_server.batching.pack import pack
from samplerd_server.sampling.cuda.card import CardLostError, LaunchError
from samplerd_server.sampling.cuda.late_card import LateCard
from samplerd_server.sampling.cuda.sampler import CudaSampler
from samplerd_server.sampling.resumed import ResumedDraft
from samplerd_server.sampling.rows import DraftBatch, DraftSequence
from tests.support.gpu_batches import random_draft
from tests.support.gpu_rows import same_bits
from tests.support.samplers import encode, make_sampler, params, request

ROOM = 4 << 20


def make(device_bytes: int = ROOM) -> CudaSampler:
    sampler = CudaSampler(LateCard(), device_bytes=device_bytes, locked_bytes=ROOM)
    sampler.warm_up()
    return sampler


@pytest.fixture
def sampler():
    own = make()
    yield own
    own.close()


def sequence(target: Any, ids: Any, parents: Any, draft: Any = None) -> DraftSequence:
    return DraftSequence(
        target=pack([target]), draft_ids=np.array(ids, np.int32), parents=np.array(parents, np.int32), draft=draft
    )


def some(seed: int, width: int = 40, **own: Any) -> DraftSequence:
    """A chain of two tokens, drawn from distributions."""
    rng = np.random.default_rng(seed)
    target = request(rng.normal(size=(3, width)), seed=seed, params=params(**own))
    return sequence(target, rng.integers(0, width, 2), [-1, 0], encode(rng.random((2, width))))


def batch(*sequences: DraftSequence) -> DraftBatch:
    return DraftBatch(sequences=sequences)


def expect(got: Any, *sequences: DraftSequence) -> None:
    cpu = make_sampler("numba")
    assert got == tuple(cpu.verify(own.target, own.draft_ids, own.parents, own.draft) for own in sequences)


def is_empty(sampler: CudaSampler) -> bool:
    return (sampler.device.used_bytes, sampler.locked.used_bytes, sampler.in_flight) == (0, 0, 0)


def test_drafts_are_one_copy_three_launches_and_one_wait(sampler) -> None:
    drafts = [some(1, top_p=0.7), some(2, 600), some(3)]
    finish = sampler.begin_drafts(batch(*drafts))
    counts = sampler.card.counts
    assert (counts.copies, counts.launches, counts.waits) == (1, 3, 0), "beginning does not wait"
    assert sampler.in_flight == 1
    expect(finish(), *drafts)
    assert (counts.copies, counts.launches, counts.waits) == (1, 3, 1)
    assert is_empty(sampler)


def test_random_drafts_have_the_cpus_verdicts(sampler) -> None:
    for seed in range(20, 32, 4):
        drafts = [sequence(*random_draft(seed + at).ask()) for at in range(4)]
        expect(sampler.begin_drafts(batch(*drafts))(), *drafts)
        assert sampler.card.counts.waits == (seed - 16) / 4, "none was verified by the CPU"
        assert is_empty(sampler)


def test_rows_and_drafts_are_on_the_card_together(sampler) -> None:
    drafts, row = [some(5), some(6)], request([1.0, 2.0, 0.5], seed=4, num_samples=3)
    finishes = [
        sampler.begin_drafts(batch(drafts[0])),
        sampler.begin(pack([row])),
        sampler.begin_drafts(batch(drafts[1])),
    ]
    assert sampler.in_flight == 3
    expect(finishes[2](), drafts[1])
    same_bits(finishes[1](), make_sampler("numba").sample(pack([row])))
    expect(finishes[0](), drafts[0])
    assert is_empty(sampler)


def test_a_draft_alone_and_a_sliced_one_are_verified_on_the_card_at_once(sampler) -> None:
    own = some(7)
    expect((sampler.verify(own.target, own.draft_ids, own.parents, own.draft),), own)
    assert sampler.card.counts.launches == 2
    sliced = ResumedDraft(own)
    sliced.tokens = 1
    expect(sampler.begin_drafts(sliced)(), own)
    expect((sampler.resume_draft(sliced),), own)
    assert sampler.card.counts.launches == 6


def test_what_the_cpu_began_it_ends(sampler, monkeypatch) -> None:
    monkeypatch.setattr(LateCard, "overhead_ns", 100_000)
    own = some(8)
    priced = replace(own, target=replace(own.target, work=99_999))
    assert sampler.begin_drafts(batch(priced)) is None
    sliced = ResumedDraft(priced)
    sliced.tokens, verdict = 1, None
    while verdict is None:
        assert sampler.begin_drafts(sliced) is None
        verdict = sampler.resume_draft(sliced)
    expect((verdict,), own)
    assert sampler.card.counts.launches == 0


def test_drafts_that_lack_memory_are_split_and_then_left_to_the_cpu() -> None:
    sampler = make(device_bytes=64 << 10)
    drafts = [some(seed, 1_000) for seed in range(3)] + [some(9, 4_000)]
    expect(sampler.begin_drafts(batch(*drafts))(), *drafts)
    counts = sampler.card.counts
    assert 0 < counts.copied_bytes <= 3 * 24 << 10, "the draft that does not fit was verified by the CPU"
    assert is_empty(sampler)
    sampler.close()


def test_a_long_draft_that_does_not_fit_is_verified_in_slices() -> None:
    sampler = make(device_bytes=64 << 10)
    own = some(9, 4_000)
    sliced = ResumedDraft(own)
    sliced.tokens, verdict, slices = 1, None, 0
    assert sampler.begin_drafts(sliced) is None
    while verdict is None:
        verdict, slices = sampler.resume_draft(sliced), slices + 1
    expect((verdict,), own)
    assert slices == 2, "one for each token"
    assert sampler.card.counts.launches == 0
    assert is_empty(sampler)
    sampler.close()


@pytest.mark.parametrize("function", ["copy", "launch", "mark"])
def test_drafts_that_the_card_refuses_are_verified_by_the_cpu(sampler, caplog, function) -> None:
    sampler.card.failures[function] = LaunchError("too many resources")
    with caplog.at_level(logging.WARNING):
        expect(sampler.begin_drafts(batch(some(1), some(2)))(), some(1), some(2))
    assert "the card refused a batch, which the CPU drew: too many resources" in caplog.text
    assert is_empty(sampler)


@pytest.mark.parametrize("function", ["copy", "launch", "wait"])
def test_once_the_card_is_lost_the_cpu_verifies(sampler, function) -> None:
    before = sampler.begin_drafts(batch(some(1)))
    sampler.card.failures[function] = CardLostError("an illegal address")
    expect(sampler.begin_drafts(batch(some(2), some(3)))(), some(2), some(3))
    expect(before(), some(1))
    assert sampler.begin_drafts(batch(some(4))) is None
    own = some(4)
    expect((sampler.verify(own.target, own.draft_ids, own.parents, own.draft),), own)
    assert is_empty(sampler)
