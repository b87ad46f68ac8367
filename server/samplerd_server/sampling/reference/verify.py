"""The reference of speculative verification: which drafted tokens stand, and what follows them. Float64, one sequence.

Law. The drafted tokens are the nodes of a tree; a chain is a tree of one branch. Verification starts at the root, with
p the target's processed distribution there, and tries the tokens that follow, its children, in the order of draft_ids.
The child d, drawn from q, is accepted if ``u x q(d) < p(d)``; verification then goes on at d, with the target's
distribution there. If it is rejected, p becomes ``max(p - q, 0)``, renormalised, and the next child is tried. Where no
child is left one token is drawn from p, and verification stops.

Exactness. Let a node's children d_1 .. d_k be drawn from q_1 .. q_k, each of which may depend on the children before
it, and let p_1 = p, p_(i+1) = max(p_i - q_i, 0) / r_i with r_i = sum of max(p_i - q_i, 0). Given that d_1 .. d_(i-1)
were rejected, the token that comes out follows p_i. For i = k + 1 that is how it is drawn. For i <= k it is x with
probability min(p_i(x), q_i(x)), accepted, plus r_i p_(i+1)(x), later: since r_i is the probability that d_i is
rejected, the sum is min(p_i, q_i) + max(p_i - q_i, 0) = p_i. With i = 1 it follows the target. Children that were drawn
with replacement have equal q_i; without replacement, q_i is 0 at d_1 .. d_(i-1).

Noise. The draw index is draw_offset. Whether drafted token j (from 0) is accepted is decided by row j of the counter,
purpose ACCEPT; a token is drawn at the root by row 0, and at drafted token j by row j + 1, the index of its target row,
purpose CORRECT. Without draft rows every q is certainty of its token. Should p - q be positive nowhere, which only
rounding can bring about, p stays.

Source: Leviathan, Kalman, Matias: Fast inference from transformers via speculative decoding (ICML 2023), algorithm 1;
Chen et al.: Accelerating large language model decoding with speculative sampling (2023); for trees Miao et al.:
SpecInfer (ASPLOS 2024), algorithm 2, and Yang et al.: Multi-candidate speculative decoding (2024).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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

__all__ = ["Verdict", "draft_row", "probabilities", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was accepted."""

    samples: tuple[int, ...]
    """The accepted tokens and, unless a row failed, one more."""
    path: tuple[int, ...]
    """Indices of the accepted tokens in the draft, from the root on."""
    failed_row: int = -1
    """The target row that verification stopped at; -1 = none."""
    failed_draft: int = -1
    """The draft's row whose numbers are at fault; -1 = those of the target row are, or none."""
    reason: RowErrorReason = RowErrorReason.NONE
    detail: int = 0

    @property
    def accepted(self) -> int:
        """How many drafted tokens were accepted."""
        return len(self.path)


def verify(target: SampleRequest, draft_ids: Sequence[int], parents: Sequence[int], draft: DenseRows | None) -> Verdict:
    """Verify the draft of one sequence.

    Args: target, dense rows [n + 1, V] with their parameters, seed and draw_offset: the root's, then that of each
    drafted token; draft_ids, n tokens; parents, for each the index of the token that it follows, below its own, -1 =
    the root; draft, weights [n, V] that they were drawn from, or None.
    """
    rows = reference.sample(target)
    path: list[int] = []
    node = -1
    p = probabilities(rows[0])
    for j, token in enumerate(draft_ids):  # children have larger indices than their parent, so that one pass meets all
        if rows[node + 1].reason != RowErrorReason.NONE:
            break
        if parents[j] != node:
            continue
        q = draft_row(draft, j, token, target.source.vocab_size)
        if isinstance(q, tuple):
            return replace(_failed(draft_ids, path, *q), failed_draft=j)
        if uniform(target.seed, target.draw_offset, j, Purpose.ACCEPT) * q[token] < p[token]:
            path.append(j)
            node = j
            p = probabilities(rows[j + 1])
        else:
            residual = np.maximum(p - q, 0.0)
            p = residual / residual.sum() if residual.any() else p
    if rows[node + 1].reason != RowErrorReason.NONE:
        return _failed(draft_ids, path, rows[node + 1].reason, rows[node + 1].detail)
    last = reference.find(p, 0.0, uniform(target.seed, target.draw_offset, node + 1, Purpose.CORRECT))
    return Verdict(samples=(*(draft_ids[j] for j in path), last), path=tuple(path))


def _failed(draft_ids: Sequence[int], path: list[int], reason: RowErrorReason, detail: int) -> Verdict:
    row = path[-1] + 1 if path else 0
    samples = tuple(draft_ids[j] for j in path)
    return Verdict(samples=samples, path=tuple(path), failed_row=row, reason=reason, detail=detail)


def draft_row(
    draft: DenseRows | None, j: int, token: int, vocab_size: int
) -> NDArray[np.float64] | tuple[RowErrorReason, int]:
    """Normalise q of one drafted token, or say why its row is bad."""
    if draft is None:
        certain: NDArray[np.float64] = (np.arange(vocab_size) == token).astype(np.float64)
        return certain
    size = draft.vocab_size * draft.dtype.itemsize
    data = bytes(draft.data[j * size : (j + 1) * size])
    fault = first_fault(data, draft.dtype, InputKind.PROBABILITIES)
    if fault is not None:
        return fault
    weights: NDArray[np.float64] = decode(data, draft.dtype).astype(np.float64)
    if not weights.any():
        return RowErrorReason.NOTHING_TO_DRAW, 0
    q: NDArray[np.float64] = np.asarray(weights / weights.sum(), np.float64)
    return q


def probabilities(row: reference.RowOutcome) -> NDArray[np.float64]:
    """Spread the processed distribution over all V ids; none of a row that failed."""
    if row.reason != RowErrorReason.NONE:
        return np.empty(0)
    own = row.distributions[LogprobKind.PROCESSED]
    raw = row.distributions[LogprobKind.RAW]
    p = np.zeros(len(raw.ids))
    p[own.ids] = np.exp(own.logprobs)
    return p
