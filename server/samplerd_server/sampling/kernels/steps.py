"""Steps 6 and 7 of a row that has a filter on: the filters and the temperature, in the row's order.

What can pass the first filter is gathered; later ones narrow it. Filters before the temperature judge the row at T = 1;
there what is left is weighed again, relative to the largest of it.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0912, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samplerd_server.sampling.kernels.compile import jit, shared
from samplerd_server.sampling.kernels.filter_table import (
    EACH,
    JOINT,
    KEEPS_FIRST,
    SIGMA,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    TOTAL,
    XTC,
    count_steps,
    first_on,
    is_on,
    least_of,
    needs_of,
    step_at,
)
from samplerd_server.sampling.kernels.filters import apply_filter, entropy, keep_prefix, largest_kept
from samplerd_server.sampling.kernels.gather import gather, lower_bound, sigma_bound
from samplerd_server.sampling.kernels.radix_select import ANY_MASS
from samplerd_server.sampling.kernels.references import dereference
from samplerd_server.sampling.kernels.temperature import bend_bound, bend_kept, bends, dynamic_temperature
from samplerd_server.sampling.kernels.units import Scale, guess_cut, make_scale, rest_mass, row_total, total_of, weigh
from samplerd_server.sampling.masses import NONE, UNKNOWN

__all__ = ["Steps", "take_steps"]

_WORTH_A_GUESS = 4096
"""From this width on, a guess of where top_p cuts saves more than it costs."""
_LEAST = np.float32(-3.4028234663852886e38)
_SMALLEST = np.float32(1e-45)


class Steps(NamedTuple):
    """The outcome of steps 6 and 7."""

    count: Any
    """How many y holds; -1: what is kept depends on what was not sent."""
    rest: Any
    """Units of what is left of the rest; NONE."""
    certain: Any
    """How many of the first that are kept precede the rest."""
    temperature: Any
    """Before anything was bent."""


@jit
def _judges_whole(row, number, mass, is_weights):
    """Tell whether the first filter is judged on the total of the whole row before anything is gathered.

    Of weights everything is gathered anyway, so that the total is known then.
    """
    needs = needs_of(row, number)
    return not is_weights and mass != UNKNOWN and needs & TOTAL != 0 and needs & EACH == 0 and KEEPS_FIRST[number]


@jit
def _gather_first(row, work, scratch, scale, number, rest):
    """Gather what can pass the first filter, by number. Returns how many, and their mass, that of the rest included."""
    width = np.int64(row.width)
    total, survivors = np.int64(0), np.int64(0)
    lowest = _SMALLEST if scale.is_weights else _LEAST
    judges_whole = _judges_whole(row, number, rest, scale.is_weights)
    if number == SIGMA:
        count = gather(work, width, lowest, scratch)
        bound, survivors = sigma_bound(row, work, count, scale, scale.top)
        if rest == NONE and survivors >= least_of(row, number):
            lowest = max(lowest, bound)
    else:
        cut = 0.0
        if judges_whole:
            is_sum = number in (TOP_P, JOINT) and row.top_p < 1
            if is_sum and rest == NONE and width >= _WORTH_A_GUESS:
                cut = guess_cut(scale, work, width, 0.5 + 0.5 * row.top_p if row.top_p > 0.98 else row.top_p + 0.01)
            total, part = row_total(scale, work, width, scratch, cut)
            total += rest
            if np.float64(part) < row.top_p * np.float64(total) + 1.0:
                cut = 0.0
        lowest = lower_bound(row, number, scale, total, rest, width, work, scratch, cut)
    count = gather(work, width, lowest, scratch)
    gathered = weigh(scale, work.y, work.mass, count)
    if number == SIGMA and survivors < least_of(row, number):
        count = keep_prefix(number, row, scale, work, count, rest, survivors, ANY_MASS)
        gathered = total_of(work, count)
    return count, total if judges_whole else gathered + max(rest, NONE)


@jit
def _next_listed(row, number, listed, before, count):
    """Count llama.cpp's list after a filter: what top_n_sigma rules out stays there, also after XTC."""
    if number == SIGMA:
        return listed
    if number == XTC:
        return listed - (before - count)
    if number == TOP_K:
        return max(min(listed, max(np.int64(row.top_k), least_of(row, number))), count)
    return count


@jit
def _bend(row, work, scale, temperature, count, rest):
    """Bend what is kept, and weigh it: it is logits at T = 1 from here on. Returns what `_reweigh` does."""
    top = bend_kept(row, work, count, temperature, scale.is_weights)
    bound, certain, above = scale.bound, np.int64(0), np.int64(0)
    if rest != NONE:
        bound, rest = bend_bound(row, bound, top, temperature, scale.is_weights), np.int64(UNKNOWN)
        for i in range(count):
            certain += work.y[i] >= bound
            above += work.y[i] > bound
    own = make_scale(row, largest_kept(work, count), 1.0, False, bound, certain, above)
    return own, weigh(own, work.y, work.mass, count), rest


@jit
def _reweigh(row, work, scale, temperature, count, rest_log, rest):
    """Weigh what is kept at T, relative to the largest of it. Returns the scale, the total and the rest's mass."""
    own = make_scale(
        row,
        largest_kept(work, count),
        max(temperature, 1e-300),
        scale.is_weights,
        scale.bound,
        scale.certain,
        scale.above,
    )
    if rest != NONE:
        rest = rest_mass(own, rest_log)
    return own, weigh(own, work.y, work.mass, count) + max(rest, NONE), rest


@jit
def _less_certain(scale, dropped):
    """Say how many of the first that are kept precede the rest, once as many of them were dropped."""
    return Scale(
        scale.top,
        scale.temperature,
        scale.is_weights,
        scale.bound,
        scale.certain - dropped,
        scale.above - dropped,
        scale.inverse,
        scale.shift,
        scale.unit,
    )


@shared
def take_steps(row, work_at, scratch_at, scale, on, rest_log, rest, temperature):
    """Take steps 6 and 7 from the first filter that is on. Returns `Steps`.

    work_at, scratch_at: references to the thread's memory. rest: of what was not sent, in units, of ln `rest_log`.
    temperature: T, unless it is dynamic and comes on the way.
    """
    work, scratch = dereference(work_at), dereference(scratch_at)
    place, steps = first_on(row, on, 0), count_steps(row)
    listed, number = np.int64(row.vocab_size), step_at(row, place)
    if number == SIGMA and rest != NONE:
        return Steps(np.int64(-1), rest, scale.certain, temperature)
    count, total = _gather_first(row, work, scratch, scale, number, rest)
    if number == SIGMA:
        place += 1
        if row.top_p < 1 and place < steps and step_at(row, place) == JOINT:  # judged on the unfiltered distribution
            total, _ = row_total(scale, work, np.int64(row.width), scratch, 0.0)
            weigh(scale, work.y, work.mass, count)
    while place < steps:
        number = step_at(row, place)
        place += 1
        if number == TEMPERATURE:
            if row.dynamic_temperature_range > 0:
                if rest != NONE:
                    return Steps(np.int64(-1), rest, scale.certain, temperature)
                counted = listed if row.dynamic_temperature_counts_all else count
                temperature = dynamic_temperature(row, entropy(scale, work, count, total), counted)
            if row.temperature == 0:
                break
            if bends(row, temperature):
                scale, total, rest = _bend(row, work, scale, temperature, count, rest)
                continue
            if first_on(row, on, place) == steps:
                break
            scale, total, rest = _reweigh(row, work, scale, temperature, count, rest_log, rest)
        elif is_on(on, number):
            before = count
            count, total, rest = apply_filter(number, row, scale, work, count, total, rest)
            if count < 0:
                break
            listed = _next_listed(row, number, listed, before, count)
            if number == XTC:
                scale = _less_certain(scale, before - count)
    return Steps(np.int64(count), rest, scale.certain, temperature)
