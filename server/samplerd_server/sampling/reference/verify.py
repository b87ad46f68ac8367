"""The reference of speculative verification: which drafted tokens stand, and what follows them. Float64, one sequence.

Law. At position i, with p the target's processed distribution and q the draft's, the token d is accepted if
``u x q(d) < p(d)``; at the first rejection one token is drawn from ``max(p - q, 0)``, renormalised, and verification
stops; if all n are accepted, one more is drawn from row n + 1. What comes out follows the target's law exactly.

Noise. Position i (from 0) is row i of the counter, the draw index is draw_offset; purpose ACCEPT decides, CORRECT
draws. Without draft rows every q is certainty of its token. Should p - q be positive nowhere, which only rounding can
bring about, the correction is drawn from p.

Source: Leviathan, Kalman, Matias: Fast inference from transformers via speculative decoding (ICML 2023), algorithm 1;
Chen et al.: Accelerating large language model decoding with speculative sampling (2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samplerd_server.core.enums import InputKind, LogprobKind, RowErrorReason
from samplerd_server.sampling.decode import decode, first_fault
from samplerd_server.sampling.noise import Purpose, uniform
from samplerd_server.sampling.reference import pipeline as reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import DenseRows

__all__ = ["Verdict", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was accepted."""

    samples: tuple[int, ...]
    """The accepted tokens and, unless a row failed, one more."""
    accepted: int
    failed_row: int = -1
    """The row that verification stopped before; -1 = none."""
    reason: RowErrorReason = RowErrorReason.NONE
    detail: int = 0


def verify(target: SampleRequest, draft_ids: Sequence[int], draft: DenseRows | None) -> Verdict:
    """Verify the draft of one sequence.

    Args: target, dense rows [n + 1, V] with their parameters, seed and draw_offset; draft_ids, n tokens; draft, weights
    [n, V] that they were drawn from, or None.
    """
    rows = reference.sample(target)
    for position, token in enumerate(draft_ids):
        row = rows[position]
        q = _draft_row(draft, position, token, target.source.vocab_size)
        if row.reason != RowErrorReason.NONE:
            return _failed(draft_ids[:position], position, row.reason, row.detail)
        if isinstance(q, tuple):
            return _failed(draft_ids[:position], position, *q)
        p = _probabilities(row)
        if uniform(target.seed, target.draw_offset, position, Purpose.ACCEPT) * q[token] < p[token]:
            continue
        residual = np.maximum(p - q, 0.0)
        last = _draw(residual if residual.any() else p, target, position)
        return Verdict(samples=(*draft_ids[:position], last), accepted=position)
    n = len(draft_ids)
    if rows[n].reason != RowErrorReason.NONE:
        return _failed(draft_ids, n, rows[n].reason, rows[n].detail)
    return Verdict(samples=(*draft_ids, _draw(_probabilities(rows[n]), target, n)), accepted=n)


def _failed(accepted: Sequence[int], row: int, reason: RowErrorReason, detail: int) -> Verdict:
    return Verdict(samples=tuple(accepted), accepted=len(accepted), failed_row=row, reason=reason, detail=detail)


def _draft_row(
    draft: DenseRows | None, position: int, token: int, vocab_size: int
) -> NDArray[np.float64] | tuple[RowErrorReason, int]:
    """Normalise q of one position, or say why its row is bad."""
    if draft is None:
        certain: NDArray[np.float64] = (np.arange(vocab_size) == token).astype(np.float64)
        return certain
    size = draft.vocab_size * draft.dtype.itemsize
    data = bytes(draft.data[position * size : (position + 1) * size])
    fault = first_fault(data, draft.dtype, InputKind.PROBABILITIES)
    if fault is not None:
        return fault
    weights: NDArray[np.float64] = decode(data, draft.dtype).astype(np.float64)
    if not weights.any():
        return RowErrorReason.NOTHING_TO_DRAW, 0
    q: NDArray[np.float64] = np.asarray(weights / weights.sum(), np.float64)
    return q


def _probabilities(row: reference.RowOutcome) -> NDArray[np.float64]:
    """Spread the processed distribution over all V ids."""
    own = row.distributions[LogprobKind.PROCESSED]
    raw = row.distributions[LogprobKind.RAW]
    p = np.zeros(len(raw.ids))
    p[own.ids] = np.exp(own.logprobs)
    return p


def _draw(masses: NDArray[np.float64], target: SampleRequest, position: int) -> int:
    return reference.find(masses, 0.0, uniform(target.seed, target.draw_offset, position, Purpose.CORRECT))
