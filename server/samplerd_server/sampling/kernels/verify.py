"""Speculative verification: which drafted tokens of one sequence stand, and what follows them.

Law and noise: `reference/verify.py`. A child d of a node, drawn from q, is accepted if u q(d) < p(d); if it is
rejected, p becomes max(p - q, 0), renormalised; where no child is left one token is drawn from p. Should p - q be
positive nowhere, p stays. A residual is float64, by position in the processed distribution: elsewhere p is 0.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0912, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.core.enums import Dtype
from samplerd_server.sampling.kernels.blocks import BLOCK, sum_half
from samplerd_server.sampling.kernels.compile import jit, kernel
from samplerd_server.sampling.kernels.exp2 import exp
from samplerd_server.sampling.kernels.memory import Noise, View, cut_scratch
from samplerd_server.sampling.kernels.outputs import load_number, normaliser, relative
from samplerd_server.sampling.kernels.philox import ACCEPT, CORRECT, uniform
from samplerd_server.sampling.kernels.plain import draw_view_apart
from samplerd_server.sampling.kernels.positions import from_source, to_source
from samplerd_server.sampling.kernels.references import reference
from samplerd_server.sampling.kernels.shapes import prepare_shaped
from samplerd_server.sampling.kernels.work import disown

__all__ = ["UNFINISHED", "verify_rows"]

UNFINISHED = -2
"""Stands for the row that failed where tokens are left to try."""

_F64 = int(Dtype.F64)
_FINAL = 2


class _Law(NamedTuple):
    """What the next token of a node follows: its processed distribution, or a residual of it."""

    kept: Any
    """FilterState of the node's target row."""
    top: Any
    """Largest exponent of the processed distribution; 0 where it is a certainty."""
    whole: Any
    """ln of the sum of its masses, relative to `top`."""
    residual: Any
    """Sum of the residual in work.residual, which is drawn from instead; 0 = nothing was rejected yet."""


class _Draft(NamedTuple):
    """The distribution that one token was drawn from."""

    numbers: Any
    """View of the weights; not looked at where the token was certain."""
    total: Any
    """Their sum; 0 = the token was certain."""
    token: Any


@jit
def _enter(row, work, scratch):
    """Process the target row of a node. Returns `_Law`."""
    kept = prepare_shaped(row, reference(work), reference(scratch))
    top, whole = 0.0, 0.0
    if kept.status == 0 and kept.final.temperature > 0:
        top, whole = normaliser(kept.final, False, scratch)
    return _Law(kept, top, whole, 0.0)


@jit
def _p(law, at, work):
    """Compute p of a position in the processed distribution; -1 = not kept."""
    if at < 0:
        return 0.0
    if law.residual > 0:
        return work.residual[at] / law.residual
    kind = law.kept.final
    if kind.temperature == 0:
        return 1.0 if at == kind.first else 0.0
    return exp(relative(kind, at, law.top) - law.whole)


@jit
def _q(draft, source):
    """Compute q of a position in the row."""
    if draft.total > 0:
        return np.float64(load_number(draft.numbers, source)) / draft.total
    return 1.0 if source == draft.token else 0.0


@jit
def _fill_residual(law, draft, at, width, work):
    """Write max(p - q, 0) of a position to work.residual. Returns it; 0 past the end."""
    if at >= width:
        return 0.0
    left = max(_p(law, at, work) - _q(draft, to_source(law.kept, _FINAL, work, at)), 0.0)
    work.residual[at] = left
    return left


@jit
def _reject(law, draft, work, scratch):
    """Fill work.residual with max(p - q, 0). Returns the law from then on: the same if none is positive.

    Its sum is by halving within blocks, then in order of blocks.
    """
    width = law.kept.final.numbers.width
    first = np.int64(0)  # the old residual is overwritten only once the new one is known to be positive somewhere
    while first < width and _p(law, first, work) <= _q(draft, to_source(law.kept, _FINAL, work, first)):
        first += 1
    if first == width:
        return law
    total, half = 0.0, scratch.half
    for low in range(0, width, BLOCK):
        for i in range(low, low + BLOCK // 2):
            left = _fill_residual(law, draft, i, width, work)
            half[i - low] = left + _fill_residual(law, draft, i + BLOCK // 2, width, work)
        total += sum_half(half)
    return _Law(law.kept, law.top, law.whole, total)


@jit
def _draw(law, row, node, work, scratch, one):
    """Draw the token after the last accepted one. Returns status, detail and the token."""
    final = law.kept.final
    noise = Noise(row.seed, row.draw_offset, np.uint32(node), np.int64(CORRECT))
    view, temperature = final.numbers, final.temperature
    if law.residual > 0:
        view, temperature = View(np.uint64(work.residual.ctypes.data), np.int64(_F64), final.numbers.width, True), 1.0
    status, detail, _, _ = draw_view_apart(view, temperature, 1, False, -np.inf, noise, one, scratch)
    return status, detail, to_source(law.kept, _FINAL, work, one[0])


@kernel
def verify_rows(
    rows, draft_ids, parents, draft, draft_dtype, draft_stride, path, progress, residual, tries, work, space
):
    """Verify one draft, or go on with it: rows: ROW[n + 1], draft_ids and parents: int32[n].

    The rows of q lie at the address `draft` (0 = none), a stride in bytes apart. Writes the indices of the accepted
    tokens to path: int32[n]. Returns how many they are, the row that failed (-1 = none), status, detail, the token that
    follows, and the index of the draft's row whose numbers failed (-1 = none, or those of the target's row did).

    At most `tries` tokens are tried; if others are left, the row that failed is `UNFINISHED`, and the next call goes on
    by progress: int64[3] (node, next token, accepted tokens) and residual: float64[1 + V] (its sum, 0 = none; its
    masses), both 0 at first. A call that tries all tokens needs no more than residual[0].
    """
    scratch = cut_scratch(space)
    memory = disown(work)
    one = memory.spare[:1]
    node, first, accepted = progress  # node: index of the target row, one more than that of the drafted token
    law = _enter(rows[node], memory, scratch)
    if residual[0] > 0:
        for at in range(law.kept.final.numbers.width):
            memory.residual[at] = residual[1 + at]
        law = _Law(law.kept, law.top, law.whole, residual[0])
    for j in range(first, len(draft_ids)):  # children have larger indices than their parent, so that one pass meets all
        if law.kept.status:
            break
        if parents[j] != node - 1:
            continue
        if tries == 0:
            progress[0], progress[1], progress[2] = node, j, accepted
            residual[0] = law.residual
            if law.residual > 0:
                for at in range(law.kept.final.numbers.width):
                    residual[1 + at] = memory.residual[at]
            return accepted, UNFINISHED, 0, 0, 0, -1
        tries -= 1
        row = rows[node]
        numbers = View(np.uint64(draft) + np.uint64(j * draft_stride), np.int64(draft_dtype), np.int64(row.width), True)
        total = 0.0
        if draft:
            noise = Noise(row.seed, row.draw_offset, np.uint32(node), np.int64(CORRECT))
            status, detail, _, total = draw_view_apart(numbers, 1.0, 0, False, -np.inf, noise, one, scratch)
            if status:
                return accepted, node, status, detail, 0, j
        own = _Draft(numbers, total, np.int64(draft_ids[j]))
        p = _p(law, from_source(law.kept, _FINAL, memory, own.token), memory)
        if uniform(row.seed, row.draw_offset, j, ACCEPT) * _q(own, own.token) < p:
            path[accepted] = j
            accepted, node = accepted + 1, j + 1
            law = _enter(rows[node], memory, scratch)
        else:
            law = _reject(law, own, memory, scratch)
    if law.kept.status:
        return accepted, node, law.kept.status, law.kept.detail, 0, -1
    status, detail, last = _draw(law, rows[node], node, memory, scratch, one)
    return accepted, node if status else -1, status, detail, last, -1
