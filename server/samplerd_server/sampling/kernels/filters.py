"""The filters, in the total order (probability descending, id ascending), on the numbers gathered from a row.

Every number that can pass the first filter is gathered in order of position, with its mass as a whole number
(`sampling.masses`); each filter then keeps some of them, renormalised by the filters before. All but typical_p and XTC
keep a prefix of the order, whose end `radix_select` finds without sorting. At least min_tokens_to_keep stay.

With candidates the rest, what was not sent, is one unknown at the end of the order, of a mass that is known (at T = 1)
or not. A filter that keeps a prefix ending before the rest drops it; where the end depends on more than is known, the
row fails as OUTSIDE_CANDIDATES.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.arithmetic import LN_2
from samplerd_server.sampling.kernels.arithmetic import log2
from samplerd_server.sampling.kernels.compile import as_bits, as_float, as_float64, jit
from samplerd_server.sampling.kernels.filter_table import (
    EACH,
    JOINT,
    LARGEST,
    SIGMA,
    TIES_ALL,
    TIES_HIGHEST,
    TIES_LOWEST,
    TOP_H,
    TOP_K,
    TOP_P,
    TOTAL,
    TYPICAL,
    XTC,
    least_of,
    needs_of,
    threshold,
    tie_rule,
)
from samplerd_server.sampling.kernels.gather import sigma_bound
from samplerd_server.sampling.kernels.radix_select import (
    ANY_MASS,
    count_equal,
    fill_keys,
    find_prefix,
    keep,
    key_of_distance,
)
from samplerd_server.sampling.kernels.units import (
    count_reaching,
    exponent,
    information,
    is_above,
    keep_reaching,
    note_exponents,
    term_scale,
    total_of,
    weigh,
)
from samplerd_server.sampling.kernels.xtc import xtc
from samplerd_server.sampling.masses import DISTANCES, NONE, PART, UNKNOWN

__all__ = ["apply_filter", "entropy", "keep_prefix", "largest_kept"]


@jit
def entropy(scale, work, count, total):
    """H of what is kept, in nats."""
    return information(scale, work, count, total)[1] * LN_2


@jit
def _with_equals(work, count, rule, last_key, ties, found):
    """Say which of those with the last key are kept, as `keep` takes it, and how many are kept in all."""
    if rule == TIES_LOWEST or ties == 0 or found >= count:
        return ties, found
    equal = count_equal(work, count, last_key)
    if rule == TIES_ALL:
        return equal, found + equal - ties
    return (ties - equal if ties < equal else ties), found


@jit
def keep_prefix(number, row, scale, work, count, rest, length, mass):
    """Keep the shortest prefix of this length or mass, and what the filter has to keep at least; drop the rest.

    Returns the new count, -1 if where the prefix ends depends on what was not sent.
    """
    least, rule = least_of(row, number), tie_rule(row, number)
    if length >= count and mass == ANY_MASS:
        last_key, ties, found = np.uint64(0), count, length if rest != NONE else count
    else:
        low, high = fill_keys(work.y, work.key, count)
        last_key, ties, found = find_prefix(low, high, work.mass, count, length, mass, False, work)
    if found < least:
        if least >= count:
            last_key, ties, found = np.uint64(0), count, least if rest != NONE else count
        else:
            low, high = fill_keys(work.y, work.key, count)
            last_key, ties, found = find_prefix(low, high, work.mass, count, least, ANY_MASS, False, work)
    if rest != NONE and found > (scale.certain if rule == TIES_LOWEST else scale.above):
        return -1
    ties, found = _with_equals(work, count, rule, last_key, ties, found)
    return count if found >= count else keep(work, count, last_key, ties)


@jit
def _at_least(number, row, scale, work, count, rest, threshold):
    """Keep what reaches `threshold`, in units."""
    needed = np.int64(np.ceil(threshold))
    if is_above(scale, rest, needed):
        return -1
    length, _, is_prefix = count_reaching(work, count, needed)
    # With too few of them, min_tokens_to_keep would keep some of the rest: keep_prefix tells.
    if length == count and (rest == NONE or count >= row.min_tokens_to_keep):
        return count
    if is_prefix and rest == NONE and length >= least_of(row, number):
        return keep_reaching(work, count, needed)
    return keep_prefix(number, row, scale, work, count, rest, max(length, 1), ANY_MASS)


@jit
def _typical(row, scale, work, count, total):
    """Keep the shortest prefix, by (abs(-log2 p - H), id) ascending, that reaches typical_p."""
    y, key = work.y, work.key
    low, high = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0)
    if scale.is_weights:  # whose exponents take a logarithm: each once
        share = note_exponents(scale, work, count, total)
        for i in range(count):
            own = key_of_distance(np.int64(np.rint(np.abs(-as_float64(np.int64(key[i])) - share) * DISTANCES)))
            key[i], low, high = own, min(low, own), max(high, own)
    else:
        share, _ = information(scale, work, count, total)
        for i in range(count):
            own = key_of_distance(np.int64(np.rint(np.abs(-exponent(scale, y[i]) - share) * DISTANCES)))
            key[i], low, high = own, min(low, own), max(high, own)
    needed = np.int64(np.ceil(row.typical_p * np.float64(total)))
    rule = tie_rule(row, TYPICAL)
    from_last = rule == TIES_HIGHEST
    last_key, ties, found = find_prefix(low, high, work.mass, count, np.inf, needed, from_last, work)
    if found < row.min_tokens_to_keep:
        last_key, ties, found = find_prefix(
            low, high, work.mass, count, min(row.min_tokens_to_keep, count), ANY_MASS, from_last, work
        )
    ties, _ = _with_equals(work, count, rule, last_key, ties, found)
    return keep(work, count, last_key, ties)


@jit
def _mass_of_prefix(work, count, last_key, ties):
    """Add the masses of those with a key above `last_key`, and of the first `ties` with that key."""
    added, keys, mass = np.int64(0), work.key, work.mass
    for i in range(count):
        added += mass[i] if keys[i] > last_key else np.int64(0)
    i = np.int64(0)
    while ties > 0 and i < count:
        is_tie = keys[i] == last_key
        added += mass[i] if is_tie else np.int64(0)
        ties -= is_tie
        i += 1
    return added


@jit
def _top_h(row, scale, work, count, total, rest):
    """Keep the longest prefix whose terms -p log2 p add up to at most top_h of the entropy."""
    level, scaled = log2(np.float64(total)) - scale.shift, term_scale(total)
    whole = np.int64(0)
    y, mass = work.y, work.mass
    for i in range(count):  # what is kept is weighed again afterwards
        surprise = max(level - exponent(scale, y[i]), 0.0)
        term = np.int64(np.rint(np.float64(mass[i]) * surprise * scaled))
        mass[i] = term
        whole += term
    limit = np.int64(np.floor(row.top_h * np.float64(whole) * (1.0 + 2.0**-PART)))
    low, high = fill_keys(work.y, work.key, count)
    last_key, ties, length = find_prefix(low, high, work.mass, count, np.inf, limit + 1, False, work)
    exceeds = _mass_of_prefix(work, count, last_key, ties) > limit  # by its last one
    length, ties = (length - exceeds, ties - exceeds) if whole > 0 else (1, ties)
    if whole > 0 and length >= least_of(row, TOP_H) and tie_rule(row, TOP_H) == TIES_LOWEST:
        count = keep(work, count, last_key, ties)
    else:
        count = keep_prefix(TOP_H, row, scale, work, count, rest, max(length, 1), ANY_MASS)
    weigh(scale, work.y, work.mass, count)
    return count


@jit
def _largest(work, count):
    """Find the largest mass of what is kept. With candidates the largest is one of them."""
    largest = np.int64(0)
    mass = work.mass
    for i in range(count):
        largest = max(largest, mass[i])
    return largest


@jit
def largest_kept(work, count):
    """Find the largest number of what is kept."""
    largest, y = np.int32(-0x80000000), work.y
    for i in range(count):  # integers, since of them many are compared at a time
        bits = as_bits(y[i] + np.float32(0))
        largest = max(largest, bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    return as_float(largest ^ ((largest >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@jit
def _run(number, row, scale, work, count, total, rest):
    """Apply one filter. Returns the new count, -1 if what it keeps depends on what was not sent."""
    needs = needs_of(row, number)
    if (rest == UNKNOWN and needs & TOTAL) or (rest != NONE and needs & EACH):
        return -1
    if number == TOP_K:
        return keep_prefix(number, row, scale, work, count, rest, row.top_k, ANY_MASS)
    if number == SIGMA:
        _, survivors = sigma_bound(row, work, count, scale, largest_kept(work, count))
        return keep_prefix(number, row, scale, work, count, rest, survivors, ANY_MASS)
    if number in (TOP_P, JOINT):
        length = np.inf if number == TOP_P or row.top_k == 0 else np.float64(row.top_k)
        mass = np.int64(np.ceil(row.top_p * np.float64(total))) if row.top_p < 1 else ANY_MASS
        if rest != NONE and total_of(work, count) < mass and length > count:
            return -1
        return keep_prefix(number, row, scale, work, count, rest, length, mass)
    if number == TYPICAL:
        return _typical(row, scale, work, count, total)
    if number == TOP_H:
        return _top_h(row, scale, work, count, total, rest)
    if number == XTC:
        return xtc(row, scale, work, count, total, rest)
    largest = np.float64(_largest(work, count)) if needs & LARGEST else np.nan
    h = entropy(scale, work, count, total) if needs & EACH else np.nan
    return _at_least(number, row, scale, work, count, rest, threshold(number, row, largest, np.float64(total), h))


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
    return kept, total_of(work, kept), np.int64(NONE)
