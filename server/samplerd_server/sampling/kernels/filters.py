"""The filters, in the total order (probability descending, id ascending), on the numbers gathered from a row.

Every number that can pass the first filter is gathered in order of position, with its float64 mass; each filter then
keeps some of them, renormalised by the filters before. All but typical_p and XTC keep a prefix of the order, whose end
`radix_select` finds without sorting. At least min_tokens_to_keep stay.

With candidates the rest, what was not sent, is one unknown at the end of the order, of a mass that is known (at T = 1)
or not (NaN). A filter that keeps a prefix ending before the rest drops it; where the end depends on more than is known,
the row fails as OUTSIDE_CANDIDATES.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.kernels.exp2 import LOG2_E, exp2, ln, log2
from samplerd_server.sampling.kernels.filter_table import (
    EACH,
    JOINT,
    LARGEST,
    TOP_K,
    TOP_P,
    TOTAL,
    TYPICAL,
    XTC,
    needs_of,
    threshold,
)
from samplerd_server.sampling.kernels.philox import XTC as XTC_PURPOSE
from samplerd_server.sampling.kernels.philox import uniform
from samplerd_server.sampling.kernels.radix_select import fill_keys, find_prefix, keep, key_of, key_of_distance

__all__ = [
    "Scale",
    "apply_filter",
    "entropy",
    "exponent",
    "keep_prefix",
    "mass_of",
    "total_of",
    "weigh",
]


class Scale(NamedTuple):
    """How numbers become masses in the filters: relative to the largest number."""

    top: Any
    """float32: the largest number."""
    temperature: Any
    is_weights: Any
    bound: Any
    """float32: no number of the rest is above it."""
    certain: Any
    """int64: how many of the first of the order are known to precede the rest."""


@jit
def exponent(scale, y):
    """Compute ln of a number's mass."""
    if scale.is_weights:
        return ln(np.float64(y)) if scale.temperature == 1 else ln(np.float64(y) / scale.top) / scale.temperature
    return (np.float64(y) - np.float64(scale.top)) / scale.temperature


@jit
def mass_of(scale, y):
    """Compute a number's mass: a weight at T = 1 is its own."""
    if scale.is_weights:
        if scale.temperature == 1:
            return np.float64(y)
        return exp2(log2(np.float64(y) / scale.top) / scale.temperature)
    return exp2((np.float64(y) - np.float64(scale.top)) * min(LOG2_E / scale.temperature, 1e300))


@jit
def weigh(scale, work, count):
    """Fill in masses and keys of y. Returns the total."""
    if scale.is_weights:
        for i in range(count):
            work.mass[i] = mass_of(scale, work.y[i])
    else:
        top, c = np.float64(scale.top), min(LOG2_E / scale.temperature, 1e300)
        y, mass = work.y, work.mass
        for i in range(count):
            mass[i] = exp2((np.float64(y[i]) - top) * c)
    return total_of(work, count)


@jit
def total_of(work, count):
    """Add masses in order of position, four sums side by side."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    mass = work.mass
    whole = count & ~3
    for i in range(0, whole, 4):
        a += mass[i]
        b += mass[i + 1]
        c += mass[i + 2]
        d += mass[i + 3]
    for i in range(whole, count):
        a += mass[i]
    return (a + b) + (c + d)


@jit
def entropy(scale, work, count, total):
    """H of what is kept, in nats."""
    moment = 0.0
    for i in range(count):
        if work.mass[i] > 0:
            moment += work.mass[i] * exponent(scale, work.y[i])
    return max(0.0, ln(total) - moment / total)


@jit
def keep_prefix(row, scale, work, count, rest, length, mass):
    """Keep the shortest prefix of this length or mass, and at least min_tokens_to_keep; drop the rest.

    Returns the new count, -1 if where the prefix ends depends on what was not sent.
    """
    if length >= count and mass == np.inf:
        last_key, ties, found = np.uint64(0), count, length if rest != 0 else count
    else:
        fill_keys(work.y, work.key, count)
        last_key, ties, found = find_prefix(work.key, work.mass, count, length, mass, work)
    if found < row.min_tokens_to_keep:
        if row.min_tokens_to_keep >= count:
            last_key, ties, found = np.uint64(0), count, row.min_tokens_to_keep if rest != 0 else count
        else:
            last_key, ties, found = find_prefix(work.key, work.mass, count, row.min_tokens_to_keep, np.inf, work)
    if rest != 0 and found > scale.certain:
        return -1
    return count if found >= count else keep(work, count, last_key, ties)


@jit
def _at_least(row, scale, work, count, rest, threshold):
    """Keep masses of at least `threshold`."""
    if rest != 0 and not mass_of(scale, scale.bound) < threshold:
        return -1
    length = 0
    for i in range(count):
        length += work.mass[i] >= threshold
    # With too few of them, min_tokens_to_keep would keep some of the rest: keep_prefix tells.
    if length == count and (rest == 0 or count >= row.min_tokens_to_keep):
        return count
    return keep_prefix(row, scale, work, count, rest, max(length, 1), np.inf)


@jit
def _typical(row, scale, work, count, total):
    """Keep the shortest prefix, by (abs(-ln p - H), id) ascending, with mass >= typical_p."""
    shift = ln(total) - entropy(scale, work, count, total)
    for i in range(count):
        work.key[i] = key_of_distance(np.abs(shift - exponent(scale, work.y[i])))
    last_key, ties, found = find_prefix(work.key, work.mass, count, np.inf, row.typical_p * total, work)
    if found < row.min_tokens_to_keep:
        last_key, ties, found = find_prefix(
            work.key, work.mass, count, min(row.min_tokens_to_keep, count), np.inf, work
        )
    return keep(work, count, last_key, ties)


@jit
def _xtc(row, scale, work, count, total, rest):
    """Drop all but the least likely of those with probability >= xtc_threshold, if the row's own noise says so."""
    first = row.draw_offset - np.uint64(row.drawn)  # one decision for all draws of the row, in whichever part they are
    if not uniform(row.seed, first, row.row_index, XTC_PURPOSE) < row.xtc_probability:
        return count
    threshold = row.xtc_threshold * total
    if rest != 0 and not mass_of(scale, scale.bound) < threshold:
        return -1
    length = 0
    for i in range(count):
        length += work.mass[i] >= threshold
    if length < 2 or count - length + 1 < row.min_tokens_to_keep:
        return count
    for i in range(count):
        work.key[i] = np.uint64(0xFFFFFFFF) - key_of(work.y[i])
    # In the opposite order the last `count - length + 1` stay; of equal numbers those of the highest position.
    for i in range(count // 2):
        _swap(work, i, count - 1 - i)
    last_key, ties, _ = find_prefix(work.key, work.mass, count, count - length + 1, np.inf, work)
    kept = keep(work, count, last_key, ties)
    for i in range(kept // 2):
        _swap(work, i, kept - 1 - i)
    return kept


@jit
def _swap(work, i, j):
    work.y[i], work.y[j] = work.y[j], work.y[i]
    work.at[i], work.at[j] = work.at[j], work.at[i]
    work.mass[i], work.mass[j] = work.mass[j], work.mass[i]
    work.key[i], work.key[j] = work.key[j], work.key[i]


@jit
def _largest(scale, work, count, rest):
    """Find the largest mass. With candidates the largest is one of them, and its mass is known."""
    if count and not rest:
        largest = 0.0
        for i in range(count):
            largest = max(largest, work.mass[i])
        return largest
    return np.float64(scale.top) if scale.is_weights and scale.temperature == 1 else 1.0


@jit
def _run(number, row, scale, work, count, total, rest):
    """Apply one filter. Returns the new count, -1 if what it keeps depends on what was not sent."""
    needs = needs_of(row, number)
    if (np.isnan(rest) and needs & TOTAL) or (rest != 0 and needs & EACH):
        return -1
    if number == TOP_K:
        return keep_prefix(row, scale, work, count, rest, row.top_k, np.inf)
    if number in (TOP_P, JOINT):
        length = np.inf if number == TOP_P or row.top_k == 0 else np.float64(row.top_k)
        mass = row.top_p * total if row.top_p < 1 else np.inf
        if rest != 0 and total_of(work, count) < mass and length > count:
            return -1
        return keep_prefix(row, scale, work, count, rest, length, mass)
    if number == TYPICAL:
        return _typical(row, scale, work, count, total)
    if number == XTC:
        return _xtc(row, scale, work, count, total, rest)
    largest = _largest(scale, work, count, rest) if needs & LARGEST else np.nan
    h = entropy(scale, work, count, total) if needs & EACH else np.nan
    return _at_least(row, scale, work, count, rest, threshold(number, row, largest, total, h))


@jit
def apply_filter(number, row, scale, work, count, total, rest):
    """Apply a filter, by number, to y: float32[count] of mass `total`, the rest's included.

    Returns the new count (-1: what it keeps depends on what was not sent), the new total, and what is left of the rest.
    """
    kept = _run(number, row, scale, work, count, total, rest)
    if kept < 0:
        return kept, total, rest
    if number == XTC:
        return kept, total_of(work, kept) + rest, rest
    return kept, total_of(work, kept), 0.0
