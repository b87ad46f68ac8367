"""A row's outputs beside its samples: log-probabilities of three kinds, entropies, ranks.

Law: a log-probability is exponent - ln(sum of exp(exponent)), float64 until it is stored. Of successive draws without
replacement it is conditional: with L_d the ln of the mass left before draw d, L_S is measured once, with everything
drawn taken out, and L_(d-1) = ln(e^L_d + e^(exponent of draw d - 1)): sums of positive numbers only, nothing cancels.
L is kept as two numbers, the largest exponent and what ln is relative to it, so that nothing is lost beside an exponent
of 10^38.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.core.enums import Dtype, InputKind, LogprobKind
from samplerd_server.sampling.kernels.blocks import (
    BLOCK,
    FLAT,
    TINY,
    block_maximum,
    load_block,
    sum_block,
    sum_half,
    weigh_block,
)
from samplerd_server.sampling.kernels.compile import jit, load_bf16, load_f16, load_f32, load_f64
from samplerd_server.sampling.kernels.exp2 import LOG2_E, exp, exp2, ln, log_add
from samplerd_server.sampling.kernels.measure import measure_view
from samplerd_server.sampling.kernels.memory import View, mark, unmark

__all__ = [
    "Kind",
    "entropy_view",
    "load_number",
    "logprobs_of_draws",
    "logprobs_of_light",
    "normaliser",
    "relative",
]

_F16, _BF16, _F64 = int(Dtype.F16), int(Dtype.BF16), int(Dtype.F64)
_WEIGHTS = int(InputKind.PROBABILITIES)
_PROCESSED = int(LogprobKind.PROCESSED) - 1
_FARTHEST = -1e300
"""Exponents that lie farther below the largest have no mass; finite, so that 0 times it is 0."""


class Kind(NamedTuple):
    """A distribution over the numbers of a view."""

    numbers: Any
    temperature: Any
    """0 = certainty of position `first`."""
    rest: Any
    """ln of the mass of what was not sent, at T = 1; -inf = none, NaN = unknown."""
    first: Any
    """Position of the most likely; used where the temperature is 0."""


@jit
def load_number(view, at):
    """Load one number of a row."""
    if view.dtype == _F16:
        return load_f16(view.address, at)
    if view.dtype == _BF16:
        return load_bf16(view.address, at)
    if view.dtype == _F64:
        return load_f64(view.address, at)
    return load_f32(view.address, at)


@jit
def relative(kind, at, top):
    """Compute the exponent of the number at a position, relative to the largest exponent `top`."""
    value = np.float64(load_number(kind.numbers, at))
    if kind.numbers.is_weights:
        return ln(value) / kind.temperature - top
    # A difference of exponents, not of logits: top came from a division by the same T, so that the largest gives 0.
    return value / kind.temperature - top


@jit
def normaliser(kind, has_taken, scratch):
    """Compute the largest exponent, and ln of the sum of masses relative to it, the rest's included."""
    top, total = measure_view(kind.numbers, kind.temperature, has_taken, scratch)
    if not total > 0:
        top = 0.0
    return top, log_add(ln(total), kind.rest - top) if kind.rest != -np.inf else ln(total)


@jit
def logprobs_of_draws(kind, positions, samples_at, draws, without, out, scratch):
    """Write the log-probabilities of drawn positions: int64[draws], -1 = not in this distribution, to out."""
    if kind.temperature == 0:
        for d in range(draws):  # what is drawn is certain, or never would be: one dropped by a filter was
            out[samples_at + d] = 0.0 if positions[0] == kind.first else -np.inf
        return
    if np.isnan(kind.rest):
        return
    top, whole = normaliser(kind, False, scratch)
    _write_logprobs(kind, top, whole, positions, samples_at, draws, without, out, scratch)


@jit
def _write_logprobs(kind, top, whole, positions, samples_at, draws, without, out, scratch):
    """Do what `logprobs_of_draws` does, `top` and `whole` being what `normaliser` returns."""
    if not without:
        for d in range(draws):
            out[samples_at + d] = relative(kind, positions[d], top) - whole
        return
    for d in range(draws):
        mark(scratch.taken, positions[d])
    base, left = normaliser(kind, True, scratch)
    for d in range(draws):
        unmark(scratch.taken, positions[d])
    for d in range(draws - 1, -1, -1):
        own = relative(kind, positions[d], 0.0)
        if own > base or left == -np.inf:
            base, left = own, left + (base - own) if left != -np.inf else left
        left = log_add(left, own - base)
        out[samples_at + d] = own - base - left


@jit
def logprobs_of_light(row, view, top, total, positions, out, scratch):
    """Write the wanted log-probabilities of a light row, whose draw from `view` returned `top` and `total`."""
    draws = np.int64(row.num_samples)
    sent = View(np.uint64(row.data), np.int64(row.dtype), np.int64(row.width), row.kind == _WEIGHTS)
    for k in range(3):
        if not row.output_flags & (1 << k):
            continue
        temperature = row.temperature if k == _PROCESSED or (k and row.temperature > 0) else 1.0
        kind = Kind(view if k else sent, temperature, -np.inf, np.int64(positions[0]))
        if temperature == row.temperature > 0 and kind.numbers.address == view.address:
            _write_logprobs(kind, top, ln(total), positions, row.sample_at, draws, row.without, out[k], scratch)
        else:
            logprobs_of_draws(kind, positions, row.sample_at, draws, row.without, out[k], scratch)


@jit
def _power_term(x, temperature, top):
    """Compute e^gap gap of a weight; gap: its exponent less `top`."""
    gap = max(ln(np.float64(x)) / temperature - top, _FARTHEST)
    return exp2(gap * LOG2_E) * gap


@jit
def _sum_powers(x, temperature, top, half):
    """Sum e^gap gap of weights x: float32[BLOCK], by halving; half is float64[BLOCK / 2] scratch."""
    for i in range(BLOCK // 2):
        half[i] = _power_term(x[i], temperature, top)
    for i in range(BLOCK // 2):
        half[i] += _power_term(x[BLOCK // 2 + i], temperature, top)
    return sum_half(half)


@jit
def _flat_term(x, mass, maximum, temperature):
    """Compute a logit's mass times its gap below the maximum, where c is below FLAT; 0 for what cannot be drawn."""
    return np.float64(mass) * ((np.float64(x) - np.float64(maximum)) / temperature) if x > -np.inf else 0.0


@jit
def _sum_flat(x, mass, maximum, temperature, half):
    """Sum masses times gaps of logits x: float32[BLOCK] of masses float32[BLOCK], by halving, where c is below FLAT."""
    for i in range(BLOCK // 2):
        first = _flat_term(x[i], mass[i], maximum, temperature)
        half[i] = first + _flat_term(x[BLOCK // 2 + i], mass[BLOCK // 2 + i], maximum, temperature)
    return sum_half(half)


@jit
def entropy_view(kind, scratch):
    """H in nats of a distribution; NaN with a rest."""
    if kind.rest != -np.inf:
        return np.nan
    if kind.temperature == 0:
        return 0.0
    numbers = kind.numbers
    fill = np.float32(0) if numbers.is_weights else TINY
    c = LOG2_E / kind.temperature
    top, total = measure_view(numbers, kind.temperature, False, scratch)
    moment = 0.0
    for b in range((numbers.width + BLOCK - 1) // BLOCK):
        load_block(numbers.address, numbers.dtype, b * BLOCK, min(BLOCK, numbers.width - b * BLOCK), fill, scratch.x)
        if numbers.is_weights:
            moment += _sum_powers(scratch.x, kind.temperature, top, scratch.half)
            continue
        maximum, _ = block_maximum(scratch.x)
        if maximum == -np.inf:
            continue
        weigh_block(scratch.x, maximum, c, scratch.mass)
        own = sum_block(scratch.mass, scratch.half)
        if c < FLAT:
            gaps = _sum_flat(scratch.x, scratch.mass, maximum, kind.temperature, scratch.half)
        else:
            for i in range(BLOCK):
                scratch.mass[i] *= max(scratch.x[i] - maximum, np.float32(-1e30))
            gaps = sum_block(scratch.mass, scratch.half) / kind.temperature
        away = np.float64(maximum) / kind.temperature - top
        moment += exp(away) * (gaps + max(away, -1e300) * own)
    return max(0.0, ln(total) - moment / total)
