"""The last launch: what rows ask for beside samples, and the ids of samples that were drawn from a list.

Law: `kernels/outputs.py`, `kernels/answer.py` and `kernels/filter_outputs.py`, to the bit. A program takes some of the
draws of one row; the one with the first of them also writes what is said of the row itself.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: PLR0912, PLR0915, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import triton
import triton.language as tl

from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling.cuda.arithmetic import exp, ln
from samplerd_server.sampling.cuda.conditional import position_of, write_conditional
from samplerd_server.sampling.cuda.kinds import Output, load_kind, relative, singles, whole_numbers
from samplerd_server.sampling.cuda.likeliest import first_largest, write_named, write_top
from samplerd_server.sampling.cuda.lists import sum_of
from samplerd_server.sampling.cuda.moments import exponent_of
from samplerd_server.sampling.cuda.pick import accumulate
from samplerd_server.sampling.cuda.rows import BLOCK_SIZE, PITCH, Field, Mode, load_numbers, sum_terms
from samplerd_server.sampling.cuda.survey import top_of

__all__ = ["SPARE", "describe"]

SPARE = 16
"""float64 numbers of scratch of each program: four of each kind of distribution."""


_PITCH, _SPARE = tl.constexpr(PITCH), tl.constexpr(SPARE)
_WIDTH, _INVERSE = tl.constexpr(Field.WIDTH), tl.constexpr(Field.INVERSE)
_FIRST_BLOCK, _TEMPERATURE = tl.constexpr(Field.FIRST_BLOCK), tl.constexpr(Field.TEMPERATURE)
_SAMPLE_AT, _ROW, _FLAGS = tl.constexpr(Field.SAMPLE_AT), tl.constexpr(Field.ROW), tl.constexpr(Field.FLAGS)
_RAW, _SCALED, _FINAL = tl.constexpr(Field.RAW), tl.constexpr(Field.SCALED), tl.constexpr(Field.FINAL)
_IDS, _TREE_AT = tl.constexpr(Field.IDS), tl.constexpr(Field.TREE_AT)
_LIST_AT, _TOP_N = tl.constexpr(Field.LIST_AT), tl.constexpr(Field.TOP_N)
_OF_LOGPROBS, _OF_ENTROPY = tl.constexpr(Output.LOGPROBS), tl.constexpr(Output.ENTROPY)
_OF_RANKS = tl.constexpr(Output.RANKS)
_OF_COUNT, _OF_MASS = tl.constexpr(Output.KEPT_COUNT), tl.constexpr(Output.KEPT_MASS)
_MODE, _SUMMED = tl.constexpr(Field.MODE), tl.constexpr(int(Mode.SUMMED))
_DYNAMIC = tl.constexpr(int(Mode.DYNAMIC))
_SHAPED, _ADAPTIVE = tl.constexpr(int(Mode.SHAPED)), tl.constexpr(int(Mode.ADAPTIVE))
_ADAPTIVE_OUTPUT, _OF_UNSHAPED = tl.constexpr(int(OutputFlags.ADAPTIVE)), tl.constexpr(Output.UNSHAPED)
_RANK, _KEPT = tl.constexpr(int(OutputFlags.RANK)), tl.constexpr(int(OutputFlags.KEPT))
_ENTROPY = tl.constexpr(5)
"""The place of the bit of the raw entropy; the bits of log-probabilities begin at 0."""


@triton.jit
def _normalise(kind, maxima, sums, scales, ends, spare):
    """Write of a distribution the largest exponent, ln of the sum relative to it, and the sum."""
    _, _, width, is_weights, temperature = load_kind(kind)
    c = tl.load(kind + _INVERSE).to(tl.float64, bitcast=True)
    first_block = tl.load(kind + _FIRST_BLOCK)
    blocks = (width + BLOCK_SIZE - 1) // BLOCK_SIZE
    top = top_of(maxima + first_block, blocks)
    total = accumulate(maxima + first_block, sums + first_block, scales, ends, blocks, top, c, is_weights)
    tl.store(spare, exponent_of(top, temperature, is_weights))
    tl.store(spare + 1, ln(total))
    tl.store(spare + 2, total)
    tl.debug_barrier()


@triton.jit
def _entropy(kind, terms, spare):
    _, _, width, _, temperature = load_kind(kind)
    entropy = tl.full((), 0.0, tl.float64)
    if temperature > 0:
        terms = terms + tl.load(kind + _FIRST_BLOCK)
        moment = tl.full((), 0.0, tl.float64)
        for b in range((width + BLOCK_SIZE - 1) // BLOCK_SIZE):
            moment = moment + tl.load(terms + b)
        entropy = tl.maximum(tl.load(spare + 1) - moment / tl.load(spare + 2), 0.0)
    return entropy


@triton.jit
def _rank(scaled, at):
    """Count the numbers of a row that precede the one at a position in the total order, and it."""
    address, dtype, width, _, _ = load_kind(scaled)
    value = load_numbers(address, dtype, at, width, 0.0)
    rank = width * 0 + 1
    for low in range(0, width, BLOCK_SIZE):
        places = low + tl.arange(0, BLOCK_SIZE)
        x = load_numbers(address, dtype, places, width, float("-inf"))
        precedes = ((x > value) | ((x == value) & (places < at))) & (places < width)
        rank += tl.sum(precedes.to(tl.int32), axis=0)
    return rank


@triton.jit
def _write_kept(record, list_at, out, positions, draws, spare, records, maxima, outputs):
    """Write how many the filters kept, and their mass in the scaled distribution; at T = 0 of these draws alone."""
    final = records + tl.load(record + _FINAL) * _PITCH
    scaled = records + tl.load(record + _SCALED) * _PITCH
    address, dtype, width, is_weights, _ = load_kind(scaled)
    top, whole = tl.load(spare + 4), tl.load(spare + 5)
    count, mass = tl.load(final + _WIDTH).to(tl.int32), tl.full((), 1.0, tl.float64)
    is_cold = tl.load(final + _TEMPERATURE).to(tl.float64, bitcast=True) == 0
    if is_cold & ((tl.load(record + _MODE) & _DYNAMIC) == 0):
        count, mass = draws.to(tl.int32), mass * 0.0
        for d in range(draws):
            mass = mass + exp(relative(scaled, position_of(out, positions, list_at >= 0, d), top) - whole)
        mass = tl.minimum(mass, 1.0)
    elif is_cold & (list_at >= 0):
        is_kept = position_of(out, positions, list_at >= 0, 0) == first_largest(scaled, maxima)
        mass = tl.where(is_kept, 1.0, 0.0).to(tl.float64)
    elif (list_at >= 0) & ((tl.load(record + _MODE) & _SUMMED) != 0):
        mass = mass * 0.0
        for low in range(0, count, BLOCK_SIZE):
            place = low + tl.arange(0, BLOCK_SIZE)
            at = tl.load(positions + place, mask=place < count, other=0)
            share = exp(relative(scaled, at, top) - whole)
            mass = mass + sum_terms(tl.where(place < count, share, 0.0))
        mass = tl.minimum(mass, 1.0)
    elif list_at >= 0:
        mass = tl.minimum(exp((tl.load(spare + 8) - top) + (tl.load(spare + 9) - whole)), 1.0)
    else:
        nothing = tl.where(is_weights != 0, 0.0, float("-inf"))
        count = count * 0
        for low in range(0, width, BLOCK_SIZE):
            places = low + tl.arange(0, BLOCK_SIZE)
            x = load_numbers(address, dtype, places, width, nothing)
            count += tl.sum((x > nothing).to(tl.int32), axis=0)
    row = tl.load(record + _ROW)
    tl.store(whole_numbers(outputs, _OF_COUNT) + row, count)
    tl.store(singles(outputs, _OF_MASS) + row, mass.to(tl.float32))


@triton.jit
def _write_unshaped(record, records, masses, list_at, out, sample_at, count, outputs):
    """Write the probabilities of draws before adaptive-p, 1 at T = 0."""
    unshaped = tl.load(outputs + _OF_UNSHAPED).to(tl.pointer_type(tl.float64)) + sample_at
    final = records + tl.load(record + _FINAL) * _PITCH
    kept, is_hot = tl.load(final + _WIDTH), tl.load(final + _TEMPERATURE).to(tl.float64, bitcast=True) > 0
    if ((tl.load(record + _MODE) & _SHAPED) != 0) & is_hot:
        total, _ = sum_of(masses + list_at, kept)
        for d in range(count):
            mass = tl.load(masses + list_at + tl.load(out + d))
            tl.store(unshaped + d, mass.to(tl.float64) / total.to(tl.float64))
    else:
        for d in range(count):
            tl.store(unshaped + d, 1.0)


@triton.jit
def _translate(out, count, numbers):
    """Put in place of each draw the number of that place in a list. All warps have read a draw before it is written."""
    for d in range(count):
        own = tl.load(numbers + tl.load(out + d))
        tl.debug_barrier()
        tl.store(out + d, own)
    tl.debug_barrier()


@triton.jit
def describe(
    records,
    tasks,
    maxima,
    sums,
    terms,
    scales,
    ends,
    left,
    spare,
    trees,
    masses,
    positions,
    reasons,
    details,
    samples,
    status,
    detail,
    outputs,
):
    """Write the outputs of rows that were drawn from; samples become ids. A row that failed before gets its reason.

    records, tasks, scales, ends, trees and samples are those of `pick`; left: float32 is scratch as long as ends, and
    spare is float64[P, SPARE]; terms are those of `moments`; masses: int64 and positions: int32 are those of the lists
    of what is kept; reasons: int32[B] and details: int64[B] are those of `keep`. outputs: int64, the addresses of
    `Output`.
    """
    program = tl.program_id(0)
    task = tasks + 4 * program
    record, first, count = records + tl.load(task) * _PITCH, tl.load(task + 1), tl.load(task + 2)
    own_at = tl.load(task + 3)
    scales, ends, left, spare = scales + own_at, ends + own_at, left + own_at, spare + program * _SPARE
    tree_at = tl.load(record + _TREE_AT)
    tree = trees + tl.maximum(tree_at, 0)
    row, flags = tl.load(record + _ROW), tl.load(record + _FLAGS).to(tl.int32)
    list_at, sample_at = tl.load(record + _LIST_AT), tl.load(record + _SAMPLE_AT) + first
    out = samples + sample_at
    reason = tl.load(reasons + row)
    if reason != 0:
        if first == 0:
            tl.store(status + row, reason)
            tl.store(detail + row, tl.load(details + row))
    elif tl.load(out) >= 0:
        positions = positions + tl.maximum(list_at, 0)
        for k in range(3):
            wanted = ((flags >> k) | (flags >> (k + _ENTROPY))) & 1
            if (wanted != 0) | ((k > 0) & ((flags & _KEPT) != 0)):
                kind = records + tl.load(record + _RAW + k) * _PITCH
                temperature = tl.load(kind + _TEMPERATURE).to(tl.float64, bitcast=True)
                is_listed = (k == 2) & (list_at >= 0)
                listed = tl.where(is_listed, positions.to(tl.int64, bitcast=True), 0)
                own_spare = spare + 4 * k
                if temperature > 0:
                    _normalise(kind, maxima, sums, scales, ends, own_spare)
                is_mapped = (list_at >= 0) & (k < 2)
                drawn = position_of(out, positions, is_mapped, 0)
                certain = drawn
                if (temperature == 0) & (k == 1):  # a filter may have dropped what is certain without filters
                    certain = first_largest(kind, maxima)
                is_certain = drawn == certain
                logprobs = singles(outputs, _OF_LOGPROBS + k) + sample_at
                if ((flags >> k) & 1 != 0) & (tree_at >= 0) & (temperature > 0):
                    of_row = (tree, maxima, sums, scales, ends, left)
                    write_conditional(kind, *of_row, out, positions, is_mapped, count, logprobs)
                if (flags >> k) & 1 != 0:
                    for d in range(tl.where((tree_at >= 0) & (temperature > 0), 0, count)):
                        at = position_of(out, positions, is_mapped, d)
                        value = tl.where(is_certain, 0.0, float("-inf")).to(tl.float64)
                        if temperature > 0:
                            value = relative(kind, at, tl.load(own_spare)) - tl.load(own_spare + 1)
                        tl.store(logprobs + d, value.to(tl.float32))
                    if first == 0:
                        if tl.load(record + _TOP_N) > 0:
                            write_top(record, kind, k, listed, maxima, left, own_spare, outputs)
                        write_named(record, kind, k, listed, certain, own_spare, outputs)
                if ((flags >> (k + _ENTROPY)) & 1 != 0) & (first == 0):
                    entropy = _entropy(kind, terms, own_spare)
                    tl.store(singles(outputs, _OF_ENTROPY + k) + row, entropy.to(tl.float32))
        if ((flags & _KEPT) != 0) & (first == 0):
            draws = tl.where(tree_at >= 0, count, 1)
            _write_kept(record, list_at, out, positions, draws, spare, records, maxima, outputs)
        if ((flags & _ADAPTIVE_OUTPUT) != 0) & ((tl.load(record + _MODE) & _ADAPTIVE) != 0):
            _write_unshaped(record, records, masses, tl.maximum(list_at, 0), out, sample_at, count, outputs)
        tl.debug_barrier()
        if list_at >= 0:
            _translate(out, count, positions)
        if flags & _RANK != 0:
            scaled = records + tl.load(record + _SCALED) * _PITCH
            for d in range(count):
                tl.store(whole_numbers(outputs, _OF_RANKS) + sample_at + d, _rank(scaled, tl.load(out + d)))
        if tl.load(record + _IDS) != 0:
            ids = tl.load(record + _IDS).to(tl.pointer_type(tl.int32))
            _translate(out, count, ids)
