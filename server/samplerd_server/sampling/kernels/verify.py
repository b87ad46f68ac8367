"""Speculative verification: which drafted tokens of one sequence stand, and what follows them.

Law: token d at position i, with p the target's processed distribution and q the draft's, is accepted if u q(d) < p(d);
at the first rejection one token is drawn from max(p - q, 0), renormalised, and verification stops; if all are accepted
one more is drawn from the last row. Noise: position i is row i of the counter, the draw index is the request's
draw_offset; purpose ACCEPT decides, CORRECT draws. Should p - q be positive nowhere, the correction is drawn from p.
Source: Leviathan et al. (ICML 2023), algorithm 1; Chen et al. (2023).
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0917 -- kernels have no keywords

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.kernels.answer import from_source, to_source
from samplerd_server.sampling.kernels.compile import jit, kernel
from samplerd_server.sampling.kernels.exp2 import exp
from samplerd_server.sampling.kernels.full import prepare
from samplerd_server.sampling.kernels.memory import Noise, View, cut_scratch
from samplerd_server.sampling.kernels.outputs import load_number, normaliser, relative
from samplerd_server.sampling.kernels.philox import ACCEPT, CORRECT, uniform
from samplerd_server.sampling.kernels.plain import draw_view
from samplerd_server.sampling.kernels.work import disown

__all__ = ["verify_rows"]

_F32 = int(Dtype.F32)
_FINAL = 2


@jit
def _probability(kind, at, top, whole):
    """Compute p of a position, -1 = not kept."""
    if at < 0:
        return 0.0
    if kind.temperature == 0:
        return 1.0 if at == kind.first else 0.0
    return exp(relative(kind, at, top) - whole)


@jit
def _correct(row, position, kept, work, scratch, one):
    """Draw the token after the last accepted one from the target itself."""
    final = kept.final
    noise = Noise(row.seed, row.draw_offset, np.uint32(position), np.int64(CORRECT))
    status, detail, _, _ = draw_view(final.numbers, final.temperature, 1, False, -np.inf, noise, one, scratch)
    one[0] = to_source(kept, _FINAL, work, one[0])
    return status, detail


@jit
def _subtract(row, kept, q, q_total, drafted, top, whole, work):
    """Fill raw with max(p - q, 0); q_total 0 = certainty of the drafted token. Returns whether any is positive."""
    work.raw[: row.width] = np.float32(0)
    is_any = False
    for at in range(kept.final.numbers.width):
        source = to_source(kept, _FINAL, work, at)
        own = np.float64(load_number(q, source)) / q_total if q_total > 0 else np.float64(source == drafted)
        left = np.float32(max(_probability(kept.final, at, top, whole) - own, 0.0))
        work.raw[source] = left
        is_any |= left > 0
    return is_any


@kernel
def verify_rows(rows, draft_ids, draft, draft_dtype, draft_stride, samples, work, space):
    """Verify one draft: rows: ROW[n + 1], draft_ids: int32[n], q rows at `draft` (0 = none), a stride in bytes apart.

    samples: int32[n + 1]. Returns the number of accepted tokens, the row that failed (-1 = none), status and detail.
    """
    scratch = cut_scratch(space)
    memory = disown(work)
    n = len(draft_ids)
    one = memory.spare[:1]
    for i in range(n + 1):
        row = rows[i]
        kept = prepare(row, memory, scratch)
        if kept.status:
            return i, i, kept.status, kept.detail
        if i == n:
            break
        q = View(np.uint64(draft) + np.uint64(i * draft_stride), np.int64(draft_dtype), np.int64(row.width), True)
        q_total = 0.0
        if draft:
            noise = Noise(row.seed, row.draw_offset, np.uint32(i), np.int64(CORRECT))
            status, detail, _, q_total = draw_view(q, 1.0, 0, False, -np.inf, noise, one, scratch)
            if status:
                return i, i, status, detail
        drafted = np.int64(draft_ids[i])
        top, whole = 0.0, 0.0
        if kept.final.temperature > 0:
            top, whole = normaliser(kept.final, False, scratch)
        p = _probability(kept.final, from_source(kept, _FINAL, memory, drafted), top, whole)
        q_own = np.float64(load_number(q, drafted)) / q_total if draft else 1.0
        if uniform(row.seed, row.draw_offset, i, ACCEPT) * q_own < p:
            samples[i] = drafted
            continue
        if _subtract(row, kept, q, q_total, drafted, top, whole, memory):
            left = View(np.uint64(memory.raw.ctypes.data), np.int64(_F32), np.int64(row.width), True)
            noise = Noise(row.seed, row.draw_offset, np.uint32(i), np.int64(CORRECT))
            draw_view(left, 1.0, 1, False, -np.inf, noise, one, scratch)
        else:
            _correct(row, i, kept, memory, scratch, one)
        samples[i] = one[0]
        return i, -1, 0, 0
    status, detail = _correct(rows[n], n, kept, memory, scratch, one)
    samples[n] = one[0]
    return n, n if status else -1, status, detail
