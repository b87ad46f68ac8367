"""The kernel for rows that are not plain: the pipeline, the draws, and the outputs that a row asks for."""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.core.enums import LogprobKind, RowErrorReason
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.kernels.candidates import find_token
from samplerd_server.sampling.kernels.compile import (
    allocating,
    carray,
    float32_at,
    inlined,
    int32_at,
    jit,
    kernel,
    load_i32,
)
from samplerd_server.sampling.kernels.filter_outputs import write_kept
from samplerd_server.sampling.kernels.held import PREPARE, WHOLE
from samplerd_server.sampling.kernels.light import is_light, light_view
from samplerd_server.sampling.kernels.memory import Noise, cut_scratch
from samplerd_server.sampling.kernels.outputs import (
    entropy_view,
    load_number,
    logprobs_of_draws,
    logprobs_of_light,
    normaliser,
    relative,
)
from samplerd_server.sampling.kernels.philox import DRAW
from samplerd_server.sampling.kernels.plain import draw_view
from samplerd_server.sampling.kernels.positions import from_source, to_source
from samplerd_server.sampling.kernels.ranks import find_ranks
from samplerd_server.sampling.kernels.references import reference
from samplerd_server.sampling.kernels.shapes import prepare_shaped
from samplerd_server.sampling.kernels.work import disown

__all__ = ["Outputs", "draw_full"]

_TOO_FEW, _OUTSIDE = int(RowErrorReason.TOO_FEW_TO_DRAW), int(RowErrorReason.OUTSIDE_CANDIDATES)
_RANK, _KEPT, _ENTROPY = int(OutputFlags.RANK), int(OutputFlags.KEPT), int(OutputFlags.ENTROPY_RAW)
_ADAPTIVE = int(OutputFlags.ADAPTIVE)
_PROCESSED = int(LogprobKind.PROCESSED) - 1
_QUIET = Noise(np.uint64(0), np.uint64(0), np.uint32(0), np.int64(DRAW))
"""Placeholder for the argmax, which uses no noise."""


class Outputs(NamedTuple):
    """The arrays of RowResults, flat; empty where no row asks for them. Triples are by kind: raw, scaled, processed."""

    logprobs: Any
    top_ids: Any
    top_logprobs: Any
    named: Any
    entropy: Any
    ranks: Any
    kept_count: Any
    kept_mass: Any
    unshaped: Any


@jit
def _kind_of(kept, k):
    if k == 0:
        return kept.raw
    return kept.scaled if k == 1 else kept.final


@jit
def _is_same(kind, other):
    """Tell whether two distributions are one: nothing was dropped or shaped between them."""
    are_same_numbers = kind.numbers.address == other.numbers.address and kind.numbers.width == other.numbers.width
    return are_same_numbers and kind.temperature == other.temperature and kind.rest == other.rest


@inlined
def _token(row, work, at):
    return work.tokens[at] if row.candidate_ids else np.int32(at)


@jit
def _write_top(row, kept, k, kind, top, whole, out, work, scratch):
    """Write the most likely n of one kind."""
    n = np.int64(row.top_n)
    spare = work.spare[:n]
    limit = 1 if kind.temperature == 0 else kind.numbers.width
    if k and row.candidate_ids:
        limit = min(limit, kept.certain)
    n_drawn = min(n, limit)
    status, found, _, _ = draw_view(kind.numbers, 0.0, n_drawn, True, -np.inf, _QUIET, spare, scratch)
    found = found if status else n_drawn
    for d in range(n):
        out.top_logprobs[k][row.top_at + d] = -np.inf if kind.rest == -np.inf else np.nan
        if d < found:
            out.top_ids[k][row.top_at + d] = _token(row, work, to_source(kept, k, work, spare[d]))
            out.top_logprobs[k][row.top_at + d] = (
                0.0 if kind.temperature == 0 else relative(kind, spare[d], top) - whole
            )


@jit
def _write_named(row, kept, k, kind, top, whole, out, work):
    """Write the named ids of one kind."""
    for j in range(row.named_len):
        at = find_token(row, work, load_i32(row.named, j))
        value = np.nan
        if at < 0:
            value = -np.inf if kind.rest == -np.inf else np.nan
        else:
            position = from_source(kept, k, work, at)
            if position < 0:
                value = -np.inf
            elif kind.temperature == 0:
                value = 0.0 if position == kind.first else -np.inf
            else:
                value = relative(kind, position, top) - whole
        out.named[k][row.named_at + j] = value


@allocating
def _write_kind(row, kept, k, positions, out, work, scratch):
    """Write log-probabilities of one kind: of the draws, the most likely, the named."""
    kind = _kind_of(kept, k)
    draws = np.int64(row.num_samples)
    own = positions
    if k != _PROCESSED and kept.is_filtered:
        own = work.members[:draws] if draws <= len(work.members) else np.empty(draws, np.int32)
        for d in range(draws):
            own[d] = work.at[positions[d]]
    logprobs_of_draws(kind, own, row.sample_at, draws, row.without, out.logprobs[k], scratch)
    if row.top_n == 0 and row.named_len == 0:
        return
    top, whole = 0.0, 0.0
    if kind.temperature > 0:
        top, whole = normaliser(kind, False, scratch)
    if row.top_n:
        _write_top(row, kept, k, kind, top, whole, out, work, scratch)
    if row.named_len:
        _write_named(row, kept, k, kind, top, whole, out, work)


@jit
def _write_unshaped(row, kept, positions, out, work):
    """Write the probability of each draw before adaptive-p: work.mass holds the masses of what was kept."""
    is_certain, total = kept.final.temperature == 0, np.int64(0)
    if not is_certain:
        for at in range(kept.final.numbers.width):
            total += work.mass[at]
    for d in range(row.num_samples):
        p = 1.0 if is_certain else np.float64(work.mass[positions[d]]) / np.float64(total)
        out.unshaped[row.sample_at + d] = p


@jit
def _hold(row, view, temperature, rest, held):
    """Write down what is drawn from; numbers that lie in the thread's memory are copied to the draw's own."""
    held.address = view.address
    held.dtype, held.width, held.is_weights = view.dtype, view.width, np.int64(view.is_weights)
    held.temperature, held.rest = temperature, rest
    if view.address != np.uint64(row.data):
        held.address = held.numbers
        into = carray(float32_at(held.numbers), view.width)
        for i in range(view.width):
            into[i] = load_number(view, i)


@jit
def _answer(i, row, samples, out, work, scratch, work_at, scratch_at, stage, held):
    """Draw from one row and write what it asks for. Returns status and detail. For stages, see `draw_full`."""
    draws, at = np.int64(row.num_samples), row.sample_at
    own = samples[at : at + draws]
    noise = Noise(row.seed, row.draw_offset, row.row_index, np.int64(DRAW))
    status, detail = 0, np.int64(0)
    if is_light(row):
        view = light_view(row, work)
        if stage == PREPARE:
            _hold(row, view, row.temperature, -np.inf, held)
            return 0, np.int64(0)
        top, total = held.exponent, held.sum
        if stage == WHOLE:
            status, detail, top, total = draw_view(
                view, row.temperature, draws, row.without != 0, -np.inf, noise, own, scratch
            )
        if row.output_flags and status == 0:
            logprobs_of_light(row, view, top, total, own, out.logprobs, scratch)
        return status, detail
    kept = prepare_shaped(row, work_at, scratch_at)
    if kept.status:
        return kept.status, kept.detail
    final = kept.final
    if stage == PREPARE:
        _hold(row, final.numbers, final.temperature, final.rest, held)
        return 0, np.int64(0)
    if stage == WHOLE:
        status, detail, _, _ = draw_view(
            final.numbers, final.temperature, draws, row.without != 0, final.rest, noise, own, scratch
        )
    if status:
        return status, detail if status == _TOO_FEW else 0
    _describe(i, row, kept, own, out, work, scratch)
    return status, detail


@jit
def _describe(i, row, kept, own, out, work, scratch):
    """Write the outputs of a row that was drawn from, and turn the positions of its samples into ids."""
    if row.output_flags & _ADAPTIVE and row.adaptive_target > 0:
        _write_unshaped(row, kept, own, out, work)
    for k in range(3):
        if row.output_flags & (1 << k):
            _write_kind(row, kept, k, own, out, work, scratch)
        if row.output_flags & (_ENTROPY << k):
            has_scaled = row.output_flags & (_ENTROPY << 1) != 0
            is_known = k == _PROCESSED and has_scaled and _is_same(kept.scaled, kept.final)
            out.entropy[k][i] = out.entropy[k - 1][i] if is_known else entropy_view(_kind_of(kept, k), scratch)
    if row.output_flags & _KEPT:
        write_kept(i, row, kept, own, out, work, scratch)
    draws, at = np.int64(row.num_samples), row.sample_at
    for d in range(draws):
        own[d] = to_source(kept, _PROCESSED, work, own[d])
    if row.output_flags & _RANK:
        find_ranks(own, draws, np.int64(row.width), kept.certain, out.ranks[at : at + draws], work)
    for d in range(draws):
        own[d] = _token(row, work, np.int64(own[d]))


@kernel
def draw_full(rows, begin, end, samples, status, detail, out, work, space, stage, held):
    """Draw from those rows of rows: ROW[B] in [begin, end) whose status is -1.

    samples, status, detail as in RowResults; out: Outputs; work and space: see workspace.py. stage: WHOLE, or for the
    one row of a long draw PREPARE or DESCRIBE; held: HELD[1], the draw's own record, unused for WHOLE.
    """
    scratch = cut_scratch(space)
    memory = disown(work)
    first = np.uint64(samples.ctypes.data)
    unowned = carray(int32_at(first), len(samples))
    memory_at, scratch_at = reference(memory), reference(scratch)
    for i in range(begin, end):
        if status[i] != -1:
            continue
        row = rows[i]
        status[i], detail[i] = _answer(i, row, unowned, out, memory, scratch, memory_at, scratch_at, stage, held[0])
        if status[i] != 0:
            for d in range(row.num_samples):
                samples[row.sample_at + d] = -1
