"""The kernels for a GPU, in Triton's interpreter, against the compiled kernels of the CPU: every bit of plain rows.

Not only ids: a wrong rounding moves an id once in millions of draws, and a sum at once. So maxima, sums and cumulative
sums of blocks are compared too, with what the compiled draw leaves in its scratch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind
from samplerd_server.sampling.choose import choose_sampler
from samplerd_server.sampling.cuda.draw import Drawn, draw
from samplerd_server.sampling.cuda.interpreter import launch
from samplerd_server.sampling.cuda.scope import is_drawn
from samplerd_server.sampling.kernels import NumbaSampler
from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.rows import new_results
from tests.support.samplers import make_sampler, outputs, params, request, sparse

LOGITS, WEIGHTS = InputKind.LOGITS, InputKind.PROBABILITIES
NEVER = float("-inf")
TEMPERATURES = (0.0, 1e-260, 1e-39, 1e-8, 0.05, 0.7, 1.0, 1.7, 50.0, 1e6, 1e25)


def ask(x: Any, temperature: float = 1.0, dtype: Dtype = Dtype.F32, kind: InputKind = LOGITS, **fields: Any) -> Any:
    own = {"seed": 7, **fields}
    return request(x, dtype, kind=kind, params=params(temperature=temperature), **own)


def interpret(*asked: Any) -> tuple[Any, Drawn, Any]:
    batch = pack(asked)
    assert is_drawn(batch.rows).all()
    results = new_results(batch)
    return results, draw(batch.rows, results, launch), batch


def compare(*asked: Any) -> None:
    """Hold a batch against the compiled kernels, which draw each row alone and leave its sums behind."""
    got, measured, batch = interpret(*asked)
    cpu = NumbaSampler(1)
    scratch = cpu._workspaces[0]
    at = 0
    for row, own in enumerate(asked):
        want = cpu.sample(pack([own]))
        assert (got.status[row], got.detail[row]) == (want.status[0], want.detail[0])
        assert got.samples[at : at + own.num_samples].tolist() == want.samples.tolist()
        at += own.num_samples
        if got.status[row]:
            continue
        low = measured.first_block[row]
        blocks = -(-int(batch.rows["width"][row]) // BLOCK)
        high, room = low + blocks, len(scratch.taken) * 64 // BLOCK
        maxima = scratch.small32[2 * BLOCK : 2 * BLOCK + blocks]
        assert measured.maxima[low:high].numpy().tobytes() == maxima.tobytes()
        if batch.rows["temperature"][row] > 0:
            sums, ends = (scratch.small64[BLOCK // 2 + k * room :][:blocks] for k in (0, 2))
            assert measured.sums[low:high].numpy().tobytes() == sums.tobytes()
            begin = measured.ends_at[row]
            assert measured.ends[begin : begin + blocks].numpy().tobytes() == ends.tobytes()


@dataclass(frozen=True)
class PlainRow:
    """A plain row, by what it is made of: a failure shows this, not its numbers."""

    seed: int
    width: int
    kind: InputKind
    dtype: Dtype
    temperature: float
    scale: float
    never: float
    """Share of the numbers that are forbidden."""
    has_ties: bool
    fault: float | None
    draws: int
    draw_offset: int

    def ask(self) -> Any:
        rng = np.random.default_rng(self.seed)
        x = rng.normal(scale=self.scale, size=self.width)
        if self.has_ties:
            x = np.round(x * 2) / 2
        if self.kind is WEIGHTS:
            x = np.abs(x)
        x[rng.random(self.width) < self.never] = 0.0 if self.kind is WEIGHTS else NEVER
        if self.fault is not None and (self.fault != -1e300 or self.dtype is Dtype.F64):
            x[rng.integers(self.width)] = self.fault
        own = {"num_samples": self.draws, "draw_offset": self.draw_offset, "seed": self.seed}
        return ask(x, self.temperature, self.dtype, self.kind, **own)


ROWS = st.lists(
    st.builds(
        PlainRow,
        seed=st.integers(0, 2**64 - 1),
        width=st.one_of(st.integers(1, 40), st.sampled_from((511, 512, 513, 1_024, 1_500))),
        kind=st.sampled_from((LOGITS, LOGITS, WEIGHTS)),
        dtype=st.sampled_from(tuple(Dtype)),
        temperature=st.sampled_from(TEMPERATURES),
        scale=st.sampled_from((0.01, 1.0, 6.0)),
        never=st.sampled_from((0.0, 0.2, 0.99)),
        has_ties=st.booleans(),
        fault=st.sampled_from((None,) * 8 + (math.nan, math.inf, -1.0, -1e300)),
        draws=st.sampled_from((1, 1, 2, 3)),
        draw_offset=st.sampled_from((0, 3, 2**32 - 1, 2**63)),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=8, deadline=None)
@given(ROWS)
def test_every_bit_is_that_of_the_compiled_kernels(rows) -> None:
    compare(*(row.ask() for row in rows))


@pytest.mark.interpret
@pytest.mark.timeout(1_800)
@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_every_bit_in_many_more_batches(rows) -> None:
    compare(*(row.ask() for row in rows))


@pytest.mark.interpret
@pytest.mark.parametrize("width", [32_768, 151_936])
@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F16, Dtype.BF16])
def test_every_bit_of_wide_rows(width: int, dtype: Dtype) -> None:
    rng = np.random.default_rng(width + dtype)
    x = rng.normal(scale=4.0, size=width)
    compare(*(ask(x, t, dtype, num_samples=3) for t in (0.3, 1.0)))


def test_hard_rows() -> None:
    """Ends of every range, and every fault, in one batch of rows of all dtypes."""
    big = 3e38
    rng = np.random.default_rng(1)
    logits, weights = rng.normal(scale=3.0, size=1_300), rng.random(600)
    weights[:512] = 0.0  # a block without mass
    compare(
        *(ask([big, -big, NEVER], t) for t in (0.0, 1e-260, 1e-39, 1.0, 1e25)),
        *(ask(logits, 1e-8, dtype) for dtype in Dtype),
        *(ask(weights, t, kind=WEIGHTS, num_samples=2) for t in (0.0, 0.5, 1.0, 1e6)),
        ask([1e-45, 1e-40, 0.0], 0.5, kind=WEIGHTS),
        ask([NEVER] * 3),
        ask([0.0] * 3, kind=WEIGHTS),
        ask([NEVER] * 600 + [1.0]),
        *(ask([1.0, bad, np.nan], dtype=dtype) for bad in (np.nan, np.inf) for dtype in Dtype),
        ask([0.0, 1.0, -1e-45], kind=WEIGHTS),
        *(ask([0.0, bad], dtype=Dtype.F64) for bad in (-1e300, 1e300)),
        ask(logits[:600], 0.8, num_samples=35),
    )


def test_a_batch_is_two_launches_without_a_tensor_of_its_size() -> None:
    """Whatever the widths, dtypes and parameters of its rows are."""
    launches = []

    def count(kernel: Any, programs: int, *arguments: Any) -> None:
        launches.append((kernel, sum(own.numel() * own.element_size() for own in arguments)))

    rng = np.random.default_rng(2)
    for rows in (1, 5, 64):
        asked = [
            ask(rng.normal(size=int(width)), 0.5 * (at % 4)) for at, width in enumerate(rng.integers(1, 40_000, rows))
        ]
        batch = pack([*asked, ask(np.zeros(60_000), dtype=Dtype.BF16), ask(np.ones(50_000), kind=WEIGHTS)])
        launches.clear()
        draw(batch.rows, new_results(batch), count)
        assert len(launches) == 2
        assert max(size for _, size in launches) < batch.rows["width"].sum() * 4 / 10


def test_other_rows_of_the_batch_are_drawn_by_the_compiled_kernels() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=300)
    wanted = outputs(LogprobKind.RAW, rank=True, kept=True, entropy=(LogprobKind.RAW,))
    asked = [
        ask(x, 0.8, num_samples=2),
        request(x, seed=5, params=params(top_k=5), outputs=wanted),
        ask([np.nan, 1.0]),
        sparse([1, 5], [1.0, 2.0], -3.0, 9, seed=6, num_samples=3),
        request([np.inf, 1.0], seed=5, params=params(top_p=0.5)),
    ]
    sampler = choose_sampler("interpret")
    sampler.warm_up()
    got = sampler.sample(pack(asked))
    want = make_sampler("numba").sample(pack(asked))

    assert got.status.tolist() == want.status.tolist()
    assert got.detail.tolist() == want.detail.tolist()
    assert got.samples.tolist() == want.samples.tolist()
    for name in ("kept_count", "kept_mass", "ranks"):
        assert getattr(got, name).tobytes() == getattr(want, name).tobytes()
    assert got.entropy[LogprobKind.RAW].tobytes() == want.entropy[LogprobKind.RAW].tobytes()
    assert got.logprobs[LogprobKind.RAW].tobytes() == want.logprobs[LogprobKind.RAW].tobytes()
    assert sampler.sample(pack(asked[:1])).samples.tolist() == want.samples[:2].tolist()
    assert sampler.sample(pack(asked[3:4])).samples.tolist() == want.samples[4:7].tolist()
    many = ask(x, 0.8, num_samples=5_000)
    assert sampler.sample(pack([many])).samples.tolist() == make_sampler("numba").sample(pack([many])).samples.tolist()
