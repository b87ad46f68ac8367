"""Rows of distributions on the card: copied once, never mistaken for others, freed when nobody uses them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind
from samplerd_server.core.rows import StoredRows
from samplerd_server.sampling.cuda.arena import SLOT, Arena
from samplerd_server.sampling.cuda.card import LaunchError
from samplerd_server.sampling.cuda.late_card import LateCard
from samplerd_server.sampling.cuda.residents import Residents
from samplerd_server.sampling.cuda.sampler import CudaSampler
from tests.support.gpu_rows import same_bits
from tests.support.samplers import make_sampler, outputs, params, request

WIDTH = 600
PITCH = 4 * WIDTH
KEPT_BYTES = 2_560
"""Of a row in slots."""


@pytest.fixture
def sampler():
    own = CudaSampler(LateCard(), device_bytes=1 << 20, locked_bytes=1 << 20)
    own.warm_up()
    yield own
    own.close()


def upload(sampler: CudaSampler, rows: int = 3, seed: int = 1) -> np.ndarray:
    memory = np.zeros(64 + rows * PITCH, np.uint8)
    x = np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)
    memory[64:] = x.view(np.uint8).reshape(-1)
    sampler.note_rows(memory, memory[64:])
    return memory


def ask(memory: np.ndarray, first: int = 0, rows: int = 1, seed: int = 3) -> Any:
    data = memory[64 + first * PITCH : 64 + (first + rows) * PITCH]
    source = StoredRows(
        name="own",
        kind=InputKind.LOGITS,
        dtype=Dtype.F32,
        rows=rows,
        vocab_size=WIDTH,
        data=data.data,
        params=None,
        cdf_index=None,
        address=data.ctypes.data,
    )
    asked = request(np.zeros(WIDTH), seed=seed, params=params(top_p=0.9), outputs=outputs(LogprobKind.SCALED))
    return dataclasses.replace(asked, source=source)


def draw(sampler: CudaSampler, *asked: Any) -> int:
    """Draw, hold the bits against the CPU's, and return the bytes that were copied."""
    before = sampler.card.counts.copied_bytes
    same_bits(sampler.sample(pack(asked)), make_sampler("numba").sample(pack(asked)))
    return sampler.card.counts.copied_bytes - before


def test_a_row_is_copied_when_it_is_first_drawn_from(sampler) -> None:
    memory = upload(sampler)
    assert draw(sampler, ask(memory, 0)) == PITCH
    assert draw(sampler, ask(memory, 0)) == 0
    assert draw(sampler, ask(memory, 0, rows=3)) == 2 * PITCH, "the other two"
    copies = sampler.card.counts.copies
    assert draw(sampler, ask(memory, 2), ask(memory, 1), ask(memory, 2, seed=9)) == 0
    assert sampler.card.counts.copies == copies
    assert sampler.residents.used_bytes == 3 * PITCH
    assert sampler.device.used_bytes == 3 * KEPT_BYTES


def test_rows_of_messages_are_copied_beside_them(sampler) -> None:
    memory = upload(sampler)
    plain = request(np.random.default_rng(8).normal(size=500), seed=4)
    assert draw(sampler, plain, ask(memory), plain) == PITCH + 2_048
    assert draw(sampler, plain, ask(memory)) == 2_048
    assert sampler.device.used_bytes == KEPT_BYTES


def test_two_batches_use_a_row_that_the_first_has_copied(sampler) -> None:
    memory = upload(sampler)
    asked = [ask(memory, 0, seed=seed) for seed in (1, 2)]
    begun = [sampler.begin(pack([own])) for own in asked]
    assert sampler.card.counts.copies == 1
    for finish, own in zip(reversed(begun), reversed(asked), strict=True):
        same_bits(finish(), make_sampler("numba").sample(pack([own])))


def test_a_distribution_that_is_freed_leaves_the_card(sampler) -> None:
    memory, other = upload(sampler), upload(sampler, seed=2)
    draw(sampler, ask(memory, 0, rows=3), ask(other))
    del memory
    assert draw(sampler, ask(other)) == 0
    assert sampler.residents.used_bytes == PITCH
    assert sampler.device.used_bytes == KEPT_BYTES


def test_other_numbers_at_the_same_address_are_not_mistaken(sampler) -> None:
    """A distribution is replaced by another, whose memory lies where the first one's did."""
    home = np.zeros(64 + PITCH, np.uint8)
    for seed in (1, 2, 3):
        memory = home[:]  # what is freed, while the home stays
        memory[64:] = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32).view(np.uint8)
        sampler.note_rows(memory, memory[64:])
        asked = ask(home)
        assert draw(sampler, asked) == PITCH
        assert draw(sampler, asked) == 0
        del memory
    home[64:] = np.random.default_rng(7).normal(size=WIDTH).astype(np.float32).view(np.uint8)
    assert draw(sampler, ask(home)) == KEPT_BYTES, "it goes with the batch, in slots"


def test_a_row_in_use_outlives_its_distribution(sampler) -> None:
    memory = upload(sampler)
    asked = ask(memory)
    want = make_sampler("numba").sample(pack([asked]))
    finish = sampler.begin(pack([asked]))
    memory_of_others = upload(sampler, seed=5)
    del asked, memory
    draw_of_others = sampler.begin(pack([ask(memory_of_others)]))
    same_bits(finish(), want)
    draw_of_others()
    assert sampler.device.used_bytes == 2 * KEPT_BYTES - KEPT_BYTES * (sampler.residents.used_bytes == PITCH)


def test_a_batch_that_was_refused_leaves_no_row_that_was_not_copied(sampler) -> None:
    memory = upload(sampler)
    sampler.card.failures["launch"] = LaunchError("too many resources")
    draw(sampler, ask(memory))
    assert (sampler.residents.used_bytes, sampler.device.used_bytes) == (0, 0)
    assert draw(sampler, ask(memory)) == PITCH


def test_rows_give_way_to_a_batch_that_lacks_memory() -> None:
    sampler = CudaSampler(LateCard(), device_bytes=64 << 10, locked_bytes=1 << 20)
    sampler.warm_up()
    memory = upload(sampler, 12)
    for first in range(12):
        draw(sampler, ask(memory, first))
    kept = sampler.residents.used_bytes
    assert 0 < kept <= 32 << 10
    launches = sampler.card.counts.launches
    large = request(np.random.default_rng(9).normal(size=11_000), seed=4)
    assert draw(sampler, large) >= 44_000
    assert sampler.card.counts.launches == launches + 2
    assert sampler.residents.used_bytes < kept
    sampler.close()


def test_the_rows_not_used_longest_go_first_and_none_in_use() -> None:
    residents, memory = Residents(), np.zeros(8 * SLOT, np.uint8)
    residents.start(Arena(0, 16 * SLOT), 3 * SLOT)
    residents.note(memory, memory)
    at = [memory.ctypes.data + SLOT * number for number in range(8)]
    rows = [residents.keep(at[number], SLOT) for number in range(3)]
    assert residents.keep(at[3], SLOT) is None, "all are in use"
    residents.release(rows[0], is_copied=True)
    residents.release(rows[1], is_copied=True)
    used = residents.use(at[0], SLOT)
    assert used is rows[0]
    residents.release(used, is_copied=True)
    assert residents.keep(at[4], SLOT) is not None
    assert residents.use(at[1], SLOT) is None, "it was not used longest"
    assert residents.use(at[0], SLOT) is rows[0]
    assert residents.keep(at[0] - 1, SLOT) is None, "it lies in no distribution"
    assert residents.keep(at[7], SLOT + 1) is None
