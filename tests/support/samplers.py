"""Requests for samplers, every sampler there is, and the comparison of its answers with the reference.

Every sampler runs the same suite, and must offer all of it.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, RowErrorReason
from samplerd_server.core.outputs import OutputFlags, Outputs
from samplerd_server.core.params import SamplingParams
from samplerd_server.core.request import SampleRequest
from samplerd_server.core.rows import CandidateRow, CandidateRows, DenseRows
from samplerd_server.sampling.choose import choose_sampler
from samplerd_server.sampling.noise import uniform
from samplerd_server.sampling.parameters import PLAIN
from samplerd_server.sampling.reference import pipeline as reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from samplerd_server.sampling.rows import RowResults
    from samplerd_server.sampling.sampler import Sampler

KINDS = tuple(LogprobKind)


@cache
def make_sampler(name: str) -> Sampler:
    """One sampler of each kind for the whole run; `threads` stays 1."""
    sampler = choose_sampler("cpu", name, threads=1)
    sampler.warm_up()
    return sampler


def require(sampler: Sampler, *names: str) -> None:
    """Fail unless the sampler has these capabilities: every sampler offers the whole contract."""
    missing = [name for name in names if name not in sampler.capabilities]
    assert not missing, f"{sampler.name} does not offer {', '.join(missing)}"


def params(**fields: Any) -> SamplingParams:
    """Parameters, `is_plain` decided as the decoder decides it."""
    return SamplingParams(**{"is_plain": fields.keys() <= PLAIN, **fields})


def sequence_lists(name: str, sequences: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The two fields of SamplingParams, or of Dry, that hold sequences."""
    if not sequences:
        return {}
    ids = [token for sequence in sequences for token in sequence]
    ends = np.cumsum([len(sequence) for sequence in sequences])
    return {f"{name}_ids": np.array(ids, np.int32), f"{name}_ends": ends.astype(np.int32)}


def outputs(
    *kinds: LogprobKind,
    top_n: int = 0,
    named: Sequence[int] | None = None,
    rank: bool = False,
    entropy: tuple[LogprobKind, ...] = (),
    kept: bool = False,
    adaptive_state: bool = False,
) -> Outputs:
    """Outputs, `output_flags` decided as the decoder decides it."""
    flags = OutputFlags(0)
    for kind in kinds:
        flags |= OutputFlags(OutputFlags.RAW << (kind - 1))
    for kind in entropy:
        flags |= OutputFlags(OutputFlags.ENTROPY_RAW << (kind - 1))
    flags |= OutputFlags.RANK if rank else OutputFlags(0)
    flags |= OutputFlags.KEPT if kept else OutputFlags(0)
    flags |= OutputFlags.ADAPTIVE if adaptive_state else OutputFlags(0)
    return Outputs(
        logprobs=tuple(sorted(kinds)),
        top_n=top_n,
        logprob_ids=None if named is None else np.array(named, np.int32),
        rank=rank,
        entropy=tuple(sorted(entropy)),
        kept=kept,
        adaptive_state=adaptive_state,
        output_flags=flags,
    )


EVERYTHING = outputs(*KINDS, rank=True, entropy=KINDS, kept=True, adaptive_state=True)


def all_outputs(sampler: Sampler, *, top_n: int = 0, named: Sequence[int] | None = None) -> Outputs:
    """Everything that this sampler can return."""
    can = {name.removeprefix("Outputs.") for name in sampler.capabilities if name.startswith("Outputs.")}
    kinds = KINDS if "logprobs.processed" in can else KINDS[:2]
    return outputs(
        *kinds,
        top_n=top_n if "top_n" in can else 0,
        named=named if "logprob_ids" in can else None,
        rank="rank" in can,
        entropy=kinds if "entropy" in can else (),
        kept="kept" in can,
        adaptive_state="adaptive_state" in can,
    )


def encode(rows: Any, dtype: Dtype = Dtype.F32) -> DenseRows:
    """Rows as the bytes of a dtype; bfloat16 by truncation."""
    array = np.atleast_2d(np.asarray(rows, np.float64))
    with np.errstate(over="ignore"):
        if dtype == Dtype.BF16:
            data = (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        else:
            data = array.astype({Dtype.F32: "<f4", Dtype.F16: "<f2", Dtype.F64: "<f8"}[dtype]).tobytes()
    return DenseRows(dtype=dtype, rows=array.shape[0], vocab_size=array.shape[1], data=data)


def request(rows: Any, dtype: Dtype = Dtype.F32, **fields: Any) -> SampleRequest:
    """A decoded request of dense rows; `params` may be one, or a tuple."""
    own = fields.pop("params", params())
    return SampleRequest(
        **{"id": 1, "source": encode(rows, dtype), "params": own if isinstance(own, tuple) else (own,), **fields}
    )


def sparse(ids: Sequence[int], logits: Sequence[float], rest: float, vocab_size: int, **fields: Any) -> SampleRequest:
    """A decoded request of one row of candidates."""
    row = CandidateRow(ids=np.array(ids, np.int32), logits=np.array(logits, np.float32), rest_logsumexp=rest)
    own = fields.pop("params", params())
    source = CandidateRows(vocab_size=vocab_size, candidates=(row,))
    return SampleRequest(**{"id": 1, "source": source, "params": (own,), **fields})


def draw(sampler: Sampler, *requests: SampleRequest) -> RowResults:
    """All rows of the requests as one batch."""
    return sampler.sample(pack(requests))


def check(sampler: Sampler, asked: SampleRequest, *, tolerance: float = 2e-5) -> list[reference.RowOutcome]:
    """Compare a sampler's answer to one request with the reference, output by output.

    An id may differ from the reference's only if u lies within `tolerance` of a boundary; then only the law of the
    chosen id is checked, as far as it does not depend on the other.
    """
    got, expected = draw(sampler, asked), reference.sample(asked)
    for row, want in enumerate(expected):
        assert RowErrorReason(got.status[row]) == want.reason, f"row {row}: {want}"
        own = slice(row * asked.num_samples, (row + 1) * asked.num_samples)
        if want.reason != RowErrorReason.NONE:
            assert got.detail[row] == want.detail
            assert (got.samples[own] == -1).all()
            continue
        _check_row(got, asked, row, want, tolerance)
    return expected


def _check_row(got: RowResults, asked: SampleRequest, row: int, want: reference.RowOutcome, tolerance: float) -> None:
    own = slice(row * asked.num_samples, (row + 1) * asked.num_samples)
    samples = got.samples[own].tolist()
    if samples != list(want.samples):
        assert is_legal(asked, row, want, samples, tolerance), (samples, want.samples)
        if not asked.with_replacement:
            return  # later draws depend on the one at the boundary
    close = {"rel": 1e-5, "abs": tolerance, "nan_ok": True}
    for kind, values in got.logprobs.items():
        exact = want.logprobs[kind] if not asked.with_replacement else [want.distributions[kind].of(s) for s in samples]
        assert values[own].tolist() == pytest.approx(_stored(exact), **close), kind
    if got.ranks is not None and samples == list(want.samples):
        assert got.ranks[own].tolist() == want.ranks
    if got.kept_count is not None and got.kept_mass is not None:
        assert got.kept_count[row] == want.kept_count
        assert got.kept_mass[row] == pytest.approx(want.kept_mass, **close)
    if got.unshaped is not None:
        has_state = asked.params[row if len(asked.params) > 1 else 0].adaptive_target > 0
        exact = want.unshaped if samples == list(want.samples) else got.unshaped[own].tolist()
        assert got.unshaped[own].tolist() == (
            exact if has_state else pytest.approx([math.nan] * len(samples), nan_ok=True)
        )
    for kind, entropies in got.entropy.items():
        assert entropies[row] == pytest.approx(want.distributions[kind].entropy(), **close), kind
    top_n = asked.outputs.top_n
    for kind, top_ids in got.top_ids.items():
        ids, logprobs = want.top(kind, top_n)
        at = slice(row * top_n, (row + 1) * top_n)
        assert top_ids[at].tolist() == ids, kind
        assert got.top_logprobs[kind][at].tolist() == pytest.approx(_stored(logprobs), **close)
    if asked.outputs.logprob_ids is not None:
        width = len(asked.outputs.logprob_ids)
        for kind, named in got.named.items():
            exact = [want.distributions[kind].of(int(token)) for token in asked.outputs.logprob_ids]
            assert named[row * width : (row + 1) * width].tolist() == pytest.approx(_stored(exact), **close), kind


def _stored(logprobs: list[float]) -> list[float]:
    """Log-probabilities as a reply holds them: what float32 cannot hold is -inf."""
    with np.errstate(over="ignore"):
        stored: list[float] = np.array(logprobs, np.float32).tolist()
    return stored


def is_legal(asked: SampleRequest, row: int, want: reference.RowOutcome, samples: list[int], tolerance: float) -> bool:
    """Whether the first draw that differs from the reference has u within rounding of the boundary."""
    assert want.processed is not None
    differing = next(i for i, (a, b) in enumerate(zip(samples, want.samples, strict=True)) if a != b)
    by_id = np.argsort(want.processed.ids)
    ids, masses = want.processed.ids[by_id], want.processed.own[by_id].copy()
    if not asked.with_replacement:
        masses[np.isin(ids, samples[:differing])] = 0.0
    seed = asked.seed if asked.row_seeds is None else int(asked.row_seeds[row])
    u = uniform(seed, asked.draw_offset + differing, row if asked.row_seeds is None else 0)
    at = int(np.searchsorted(ids, samples[differing]))
    if at >= len(ids) or ids[at] != samples[differing] or masses[at] == 0:
        return False
    sums, total = np.cumsum(masses), math.fsum(masses)
    low, high = (sums[at] - masses[at]) / total, sums[at] / total
    return bool(low - tolerance <= u <= high + tolerance)


def parametrize_samplers() -> Any:
    """The fixture `sampler`: every implementation in turn."""

    @pytest.fixture(params=["torch", "numba"])
    def sampler(request: pytest.FixtureRequest) -> Sampler:
        return make_sampler(request.param)

    return sampler


__all__ = [
    "EVERYTHING",
    "KINDS",
    "InputKind",
    "all_outputs",
    "check",
    "draw",
    "encode",
    "make_sampler",
    "outputs",
    "parametrize_samplers",
    "params",
    "request",
    "require",
    "sequence_lists",
    "sparse",
]
