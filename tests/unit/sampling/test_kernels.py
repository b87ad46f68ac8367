"""The insides of the compiled sampler: arithmetic, blocks, searching, memory, threads."""

import os
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from scipy import stats

numba = pytest.importorskip("numba")

from samplerd_server.batching.pack import pack  # noqa: E402
from samplerd_server.config import LimitsConfig  # noqa: E402
from samplerd_server.core.enums import Dtype, InputKind  # noqa: E402
from samplerd_server.core.params import SamplingParams  # noqa: E402
from samplerd_server.core.request import SampleRequest  # noqa: E402
from samplerd_server.core.rows import DenseRows  # noqa: E402
from samplerd_server.sampling.kernels import NumbaSampler, blocks, exp2, philox, search  # noqa: E402
from samplerd_server.sampling.kernels.workspace import Workspace  # noqa: E402
from samplerd_server.sampling.noise import uniform  # noqa: E402
from samplerd_server.sampling.rows import RowBatch  # noqa: E402


@pytest.fixture(scope="module")
def sampler():
    one = NumbaSampler(1)
    one.warm_up()
    yield one
    one.close()


@numba.vectorize(["float32(float32)"])
def _exp2_32(t):
    return exp2.exp2_32(t)


@numba.vectorize(["float64(float64)"])
def _exp2(t):
    return exp2.exp2(t)


@numba.vectorize(["float64(float64)"])
def _log2(x):
    return exp2.log2(x)


def request_of(rows, *, dtype=Dtype.F32, data=None, **fields):
    source = DenseRows(
        dtype=dtype, rows=len(rows), vocab_size=rows.shape[1], data=rows.tobytes() if data is None else data
    )
    fields.setdefault("params", (SamplingParams(temperature=0.7),))
    return SampleRequest(id=1, source=source, **fields)


def test_exp2_is_accurate_and_exact_at_zero():
    t = np.linspace(-126.4, 1, 400_001).astype(np.float32)
    assert np.abs(_exp2_32(t) / np.exp2(t.astype(np.float64)) - 1).max() < 1.5 * 2**-23
    d = np.linspace(-1021, 8, 400_001)
    assert np.abs(_exp2(d) / np.exp2(d.astype(np.longdouble)) - 1).max() < 1.5 * 2**-52
    assert _exp2_32(np.float32(0)) == 1
    assert _exp2(0.0) == 1
    assert _exp2_32(np.float32(-np.inf)) == 0
    assert _exp2(-np.inf) == 0


def test_log2_is_accurate():
    x = np.exp(np.linspace(-700, 700, 400_001))
    exact = np.log2(x.astype(np.longdouble))
    with np.errstate(over="ignore"):  # both branches are computed where it vectorises
        got = _log2(x)
    assert (np.abs(got - exact) / np.maximum(1, np.abs(exact))).max() < 2**-51
    assert _log2(1.0) == 0
    assert _log2(0.0) == -np.inf


def test_sum_of_a_block_is_that_of_float64():
    @numba.njit
    def total(mass, half):
        return blocks.sum_block(mass, half)

    mass = np.random.default_rng(3).random(512).astype(np.float32) ** 9
    assert total(mass, np.empty(256)) == pytest.approx(mass.astype(np.float64).sum(), rel=1e-15)


def test_uniform_is_the_documented_one():
    @numba.njit
    def own(seed, draw, row, purpose):
        return philox.uniform(seed, draw, row, purpose)

    for seed, draw, row, purpose in ((0, 0, 0, 0), (2**64 - 1, 2**63 + 5, 2**32 - 1, 3), (7, 1, 2, 1)):
        assert own(np.uint64(seed), np.uint64(draw), np.uint32(row), purpose) == uniform(seed, draw, row, purpose)


def test_searching_at_both_ends_and_past_them():
    @numba.njit
    def at(mass, target):
        return search.locate(mass, 1.0, 0.0, target)

    mass = np.zeros(512, np.float32)
    mass[[5, 100, 300]] = 1, 2, 1e-20
    assert at(mass, 0.0) == 5
    assert at(mass, np.nextafter(1.0, 0)) == 5
    assert at(mass, 1.0) == 100
    assert at(mass, 3.0) == 300
    assert at(mass, 99.0) == 300


@pytest.mark.parametrize("kind", list(InputKind))
def test_what_cannot_be_is_never_drawn(sampler, kind):
    """10^6 draws from a row whose every other category is impossible."""
    rows = np.random.default_rng(5).random((1, 3000)).astype(np.float32)
    rows += np.float32(0.2)
    rows[0, ::2] = -np.inf if kind == InputKind.LOGITS else 0
    samples = sampler.sample(pack([request_of(rows, kind=kind, num_samples=1_000_000, seed=9)])).samples
    assert (samples % 2 == 1).all()
    assert len(np.unique(samples)) == 1500


def test_frequencies():
    """Goodness of fit: H0 the draws follow softmax(x / T); alpha 1e-4; n 400,000 over 1,500 categories."""
    sampler = NumbaSampler(1)
    rows = np.random.default_rng(6).normal(size=(1, 1500)).astype(np.float32)
    samples = sampler.sample(pack([request_of(rows, num_samples=400_000, seed=11)])).samples
    p = np.exp(rows[0].astype(np.float64) / 0.7)
    expected = p / p.sum() * len(samples)
    assert stats.chisquare(np.bincount(samples, minlength=1500), expected).pvalue > 1e-4


@pytest.mark.parametrize("dtype", list(Dtype))
def test_rows_at_any_address(sampler, dtype):
    rows = np.random.default_rng(7).normal(size=(2, 1111)).astype(np.float32)
    if dtype == Dtype.BF16:
        stored = (rows.view(np.uint32) >> 16).astype(np.uint16)
    else:
        stored = rows.astype({Dtype.F32: "<f4", Dtype.F16: "<f2", Dtype.F64: "<f8"}[dtype])
    answers = []
    for shift in range(4):
        held = np.frombuffer(bytes(shift) + stored.tobytes(), np.uint8)
        request = request_of(rows, dtype=dtype, data=memoryview(held)[shift:], num_samples=50, seed=1)
        answers.append(sampler.sample(pack([request])).samples.tolist())
    assert all(answer == answers[0] for answer in answers)


def test_threads_change_nothing(sampler):
    both = NumbaSampler(2)
    both.warm_up()
    rng = np.random.default_rng(8)
    history = rng.integers(0, 9000, 50).astype(np.int32)
    kinds = (
        SamplingParams(temperature=0.9),
        SamplingParams(top_k=40, top_p=0.9, is_plain=False),
        SamplingParams(history=history, repetition_penalty=1.2, is_plain=False),
        SamplingParams(temperature=0.0),
    )
    rows = rng.normal(size=(64, 9000)).astype(np.float32)
    rows[7, 3] = np.nan
    batch = pack([request_of(rows, params=tuple(kinds[i % 4] for i in range(64)), seed=5, num_samples=3)])
    one, two = sampler.sample(batch), both.sample(batch)
    both.close()
    assert one.samples.tobytes() == two.samples.tobytes()
    assert one.status.tolist() == two.status.tolist()
    assert one.status[7] == 1


def test_records_that_are_read_only(sampler):
    rows = np.zeros((1, 8), np.float32)
    batch = pack([request_of(rows, seed=1)])
    frozen = batch.rows.copy()
    frozen.flags.writeable = False
    again = RowBatch(rows=frozen, samples=1, keepalive=batch)
    assert sampler.sample(again).samples.tolist() == sampler.sample(batch).samples.tolist()


def test_a_wider_row_than_ever(sampler):
    rows = np.full((1, 700_000), -np.inf, np.float32)
    rows[0, -1] = 0
    assert sampler.sample(pack([request_of(rows, seed=1)])).samples.tolist() == [699_999]


@pytest.mark.slow
def test_a_restart_draws_the_same(sampler):
    script = (
        "import numpy as np\n"
        "from samplerd_server.batching.pack import pack\n"
        "from samplerd_server.core.enums import *\n"
        "from samplerd_server.core.params import *\n"
        "from samplerd_server.core.request import *\n"
        "from samplerd_server.core.rows import *\n"
        "from samplerd_server.sampling.kernels import NumbaSampler\n"
        "rows = np.random.default_rng(1).normal(size=(4, 5000)).astype(np.float32)\n"
        "source = DenseRows(dtype=Dtype.F32, rows=4, vocab_size=5000, data=rows.tobytes())\n"
        "params = (SamplingParams(top_p=0.9, is_plain=False),)\n"
        "request = SampleRequest(id=1, source=source, params=params, seed=3, num_samples=20)\n"
        "print(NumbaSampler(1).sample(pack([request])).samples.tolist())\n"
    )
    command = [sys.executable, "-c", script]
    runs = {subprocess.run(command, capture_output=True, check=True, env=os.environ).stdout for _ in range(2)}
    assert len(runs) == 1


def test_the_most_likely_of_the_largest_top_n_have_room():
    """The kernels write the ids of top_n to memory of a fixed size: a larger setting would let them write beyond it."""
    allowed = next(own.metadata["setting"] for own in fields(LimitsConfig) if own.name == "max_top_n")
    room = len(Workspace().full().spare)
    assert allowed.parse(str(room)) == room
    with pytest.raises(ValueError, match="65536"):
        allowed.parse(str(room + 1))
