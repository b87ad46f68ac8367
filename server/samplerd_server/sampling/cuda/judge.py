"""Speculative verification: a program walks a draft along the tokens it accepts, and draws what follows them.

Law: `kernels/verify.py`, to the bit. Every target row has been taken through its steps before, those off the path too;
the program looks at those that it enters. What is left of a row after a rejection is float64, by position in what the
row is drawn from; it is measured and drawn from as a row of weights.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0912, PLR0915, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.sampling.cuda.arithmetic import exp, ln, uniform
from samplerd_server.sampling.cuda.kinds import relative
from samplerd_server.sampling.cuda.likeliest import find_place, first_largest
from samplerd_server.sampling.cuda.measure import measure_block
from samplerd_server.sampling.cuda.moments import exponent_of
from samplerd_server.sampling.cuda.pick import SPARE, accumulate, draw_at
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, load_numbers, sum_terms
from samplerd_server.sampling.cuda.survey import survey
from samplerd_server.sampling.kernels.philox import ACCEPT, CORRECT

__all__ = ["TASK", "VERDICT", "judge"]

TASK = 7
"""Numbers of a task, int64: how many tokens; the records of the first target row, of the draft's first distribution (-1
= tokens were certain) and of the residual; where the tokens, the residual's numbers and the scratch of blocks begin."""
VERDICT = 6
"""Numbers of a verdict, int64: accepted tokens, the row that failed (-1 = none), its reason and detail, the token that
follows, and the index of the draft's row that is at fault (-1 = none)."""

_PITCH, _ACCEPT, _CORRECT = tl.constexpr(PITCH), tl.constexpr(ACCEPT), tl.constexpr(CORRECT)
_TASK, _VERDICT, _SPARE = tl.constexpr(TASK), tl.constexpr(VERDICT), tl.constexpr(SPARE)
_ADDRESS, _WIDTH, _DTYPE = tl.constexpr(Field.ADDRESS), tl.constexpr(Field.WIDTH), tl.constexpr(Field.DTYPE)
_IS_WEIGHTS, _INVERSE = tl.constexpr(Field.IS_WEIGHTS), tl.constexpr(Field.INVERSE)
_FIRST_BLOCK, _TEMPERATURE = tl.constexpr(Field.FIRST_BLOCK), tl.constexpr(Field.TEMPERATURE)
_SEED, _DRAW_OFFSET = tl.constexpr(Field.SEED), tl.constexpr(Field.DRAW_OFFSET)
_FINAL, _LIST_AT, _ROW = tl.constexpr(Field.FINAL), tl.constexpr(Field.LIST_AT), tl.constexpr(Field.ROW)


@triton.jit
def _look_at(record, maxima, bits):
    """Survey a distribution that was measured. Returns a reason, its detail, the largest number and how many blocks."""
    width, first_block = tl.load(record + _WIDTH).to(tl.int32), tl.load(record + _FIRST_BLOCK)
    dtype, is_weights = tl.load(record + _DTYPE).to(tl.int32), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    own_maxima, own_bits, address = maxima + first_block, bits + first_block, tl.load(record + _ADDRESS)
    reason, where, top = survey(address, dtype, width, own_maxima, own_bits, blocks, is_weights)
    return reason, where.to(tl.int64), top, blocks


@triton.jit
def _accumulate(record, maxima, sums, scales, ends, blocks, top):
    first_block, is_weights = tl.load(record + _FIRST_BLOCK), tl.load(record + _IS_WEIGHTS).to(tl.int32)
    c = tl.load(record + _INVERSE).to(tl.float64, bitcast=True)
    return accumulate(maxima + first_block, sums + first_block, scales, ends, blocks, top, c, is_weights)


@triton.jit
def _enter(records, targets, node, maxima, bits, sums, scales, ends, reasons, details):
    """Look at the target row of a node; targets: the record of the first one.

    Returns a reason, 0 = none, its detail, the largest exponent, and ln of the sum of masses relative to it.
    """
    record = targets + node * _PITCH
    final, row = records + tl.load(record + _FINAL) * _PITCH, tl.load(record + _ROW)
    reason, where = tl.load(reasons + row), tl.load(details + row)
    top, whole = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
    if reason == 0:
        reason, where, largest, blocks = _look_at(final, maxima, bits)
        temperature = tl.load(final + _TEMPERATURE).to(tl.float64, bitcast=True)
        if (reason == 0) & (temperature > 0):
            whole = ln(_accumulate(final, maxima, sums, scales, ends, blocks, largest))
            top = exponent_of(largest, temperature, tl.load(final + _IS_WEIGHTS).to(tl.int32))
    return reason, where, top, whole


@triton.jit
def _p(final, at, top, whole, first, residual, left):
    """Compute p of positions of what a row is drawn from; first: what is certain at T = 0; left: the residual's sum."""
    if left > 0:
        p = tl.load(residual + at, mask=at < tl.load(final + _WIDTH), other=0.0) / left
    elif tl.load(final + _TEMPERATURE).to(tl.float64, bitcast=True) == 0:
        p = tl.where(at == first, 1.0, 0.0).to(tl.float64)
    else:
        p = exp(relative(final, at, top) - whole)
    return p


@triton.jit
def _q(draft, total, token, source):
    """Compute q of positions of a row: of a draft's distribution of this sum, or the certainty of a token."""
    if total > 0:
        width, dtype = tl.load(draft + _WIDTH).to(tl.int32), tl.load(draft + _DTYPE).to(tl.int32)
        q = load_numbers(tl.load(draft + _ADDRESS), dtype, source, width, 0.0).to(tl.float64) / total
    else:
        q = tl.where(source == token, 1.0, 0.0).to(tl.float64)
    return q


@triton.jit
def _gap(final, low, positions, is_listed, top, whole, first, residual, left, draft, total, token):
    """Compute p - q of a block of positions of what a row is drawn from; 0 past its end."""
    width = tl.load(final + _WIDTH).to(tl.int32)
    at = low + tl.arange(0, BLOCK_SIZE)
    source = at
    if is_listed:
        source = tl.load(positions + at, mask=at < width, other=0)
    gap = _p(final, at, top, whole, first, residual, left) - _q(draft, total, token, source)
    return tl.where(at < width, gap, 0.0)


@triton.jit
def _reject(final, positions, is_listed, top, whole, first, residual, left, draft, total, token):
    """Fill the residual with max(p - q, 0). Returns its sum; the one before if none is positive."""
    width = tl.load(final + _WIDTH).to(tl.int32)
    law = (top, whole, first, residual, left, draft, total, token)
    most = tl.full((), 0.0, tl.float64)
    for low in range(0, width, BLOCK_SIZE):
        most = tl.maximum(most, tl.max(_gap(final, low, positions, is_listed, *law), axis=0))
    own = left
    if most > 0:
        own = left * 0.0
        for low in range(0, width, BLOCK_SIZE):
            gap = tl.maximum(_gap(final, low, positions, is_listed, *law), 0.0)
            at = low + tl.arange(0, BLOCK_SIZE)
            own = own + sum_terms(gap)
            tl.debug_barrier()
            tl.store(residual + at, gap, mask=at < width)
        tl.debug_barrier()
    return own


@triton.jit
def _draw_last(records, targets, node, left, rest, maxima, bits, sums, scales, ends, spare):
    """Draw the token after the last accepted one. Returns a reason, its detail and the position in the row's list.

    targets: the record of the first target row; rest: that of the residual; left: its sum, 0 = it is not drawn from.
    """
    record = targets + node * _PITCH
    final = records + tl.load(record + _FINAL) * _PITCH
    own = final
    if left > 0:
        own = rest
        tl.store(rest + _WIDTH, tl.load(final + _WIDTH))
        tl.debug_barrier()
        width, address = tl.load(final + _WIDTH).to(tl.int32), tl.load(rest + _ADDRESS)
        at, dtype = tl.load(rest + _FIRST_BLOCK), tl.load(rest + _DTYPE).to(tl.int32)
        for b in range((width + BLOCK_SIZE - 1) // BLOCK_SIZE):
            measure_block(address, dtype, width, b * 0 + 1, left * 0.0, b, at + b, maxima, bits, sums)
        tl.debug_barrier()
    reason, where, top, blocks = _look_at(own, maxima, bits)
    drawn = blocks * 0
    if reason == 0:
        if tl.load(own + _INVERSE).to(tl.float64, bitcast=True) < 0:
            drawn = first_largest(own, maxima)
        else:
            total = _accumulate(own, maxima, sums, scales, ends, blocks, top)
            seed = tl.load(record + _SEED).to(tl.uint64, bitcast=True)
            offset = tl.load(record + _DRAW_OFFSET).to(tl.uint64, bitcast=True)
            word = node.to(tl.uint32)
            u = uniform(seed, offset, word, word * 0 + _CORRECT)
            own_maxima = maxima + tl.load(own + _FIRST_BLOCK)
            drawn = draw_at(own, spare, own_maxima, scales, ends, blocks, total, u)
    return reason, where, drawn


@triton.jit
def judge(
    records,
    tasks,
    draft_ids,
    parents,
    maxima,
    bits,
    sums,
    scales,
    ends,
    spare,
    positions,
    residual,
    reasons,
    details,
    path,
    verdict,
):
    """Verify drafts, a program each.

    tasks: int64[P, TASK]. draft_ids, parents and path are int32, of the tokens of all drafts; residual: float64, as
    long as the rows of each together. maxima, bits and sums are of all blocks; scales and ends: float64 scratch of each
    program, of as many as its widest row has; spare: float64[P, SPARE]. Writes path, the indices of the accepted tokens
    of each draft, and verdict: int64[P, VERDICT].
    """
    program = tl.program_id(0)
    task = tasks + program * _TASK
    n, targets_at, drafts_at = tl.load(task), tl.load(task + 1), tl.load(task + 2)
    rest, tokens_at = records + tl.load(task + 3) * _PITCH, tl.load(task + 4)
    draft_ids, parents, path = draft_ids + tokens_at, parents + tokens_at, path + tokens_at
    residual, spare = residual + tl.load(task + 5), spare + program * _SPARE
    scales, ends = scales + tl.load(task + 6), ends + tl.load(task + 6)
    targets, verdict = records + targets_at * _PITCH, verdict + program * _VERDICT
    of_law = (maxima, bits, sums, scales, ends, reasons, details)
    node, accepted, j = n * 0, n * 0, n * 0
    failed_draft, left = n * 0 - 1, tl.full((), 0.0, tl.float64)
    reason, where, top, whole = _enter(records, targets, node, *of_law)
    while (j < n) & (reason == 0):
        if tl.load(parents + j) == node - 1:
            record = targets + node * _PITCH
            final, list_at = records + tl.load(record + _FINAL) * _PITCH, tl.load(record + _LIST_AT)
            own_positions, token = positions + tl.maximum(list_at, 0), tl.load(draft_ids + j)
            draft, total = rest, tl.full((), 0.0, tl.float64)
            if drafts_at >= 0:
                draft = records + (drafts_at + j) * _PITCH
                reason, where, largest, blocks = _look_at(draft, maxima, bits)
                if reason == 0:
                    total = _accumulate(draft, maxima, sums, scales, ends, blocks, largest)
                else:
                    failed_draft = j
            if reason == 0:
                at = token
                if list_at >= 0:
                    at = find_place(own_positions, tl.load(final + _WIDTH).to(tl.int32), token)
                first = at * 0
                if tl.load(final + _TEMPERATURE).to(tl.float64, bitcast=True) == 0:
                    first = first_largest(final, maxima)
                p = tl.full((), 0.0, tl.float64)
                if at >= 0:
                    p = _p(final, at, top, whole, first, residual, left)
                seed = tl.load(record + _SEED).to(tl.uint64, bitcast=True)
                offset, word = tl.load(record + _DRAW_OFFSET).to(tl.uint64, bitcast=True), j.to(tl.uint32)
                u = uniform(seed, offset, word, word * 0 + _ACCEPT)
                if u * _q(draft, total, token, token) < p:
                    tl.store(path + accepted, j.to(tl.int32))
                    accepted, node, left = accepted + 1, j + 1, left * 0.0
                    reason, where, top, whole = _enter(records, targets, node, *of_law)
                else:
                    of_row = (own_positions, list_at >= 0, top, whole, first)
                    left = _reject(final, *of_row, residual, left, draft, total, token)
        j += 1
    failed, last = node, tl.full((), 0, tl.int32)
    if reason == 0:
        reason, where, last = _draw_last(records, targets, node, left, rest, maxima, bits, sums, scales, ends, spare)
        if reason == 0:
            failed = node * 0 - 1
            list_at = tl.load(targets + node * _PITCH + _LIST_AT)
            if list_at >= 0:
                last = tl.load(positions + list_at + last)
    tl.store(verdict, accepted)
    tl.store(verdict + 1, failed)
    tl.store(verdict + 2, reason.to(tl.int64))
    tl.store(verdict + 3, where)
    tl.store(verdict + 4, last.to(tl.int64))
    tl.store(verdict + 5, failed_draft)
