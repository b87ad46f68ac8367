"""Step 6 in compiled code: dynamic temperature, and quadratic smoothing directly after the temperature."""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.arithmetic import COLDEST, HOTTEST
from samplerd_server.sampling.kernels.adjust import clamp
from samplerd_server.sampling.kernels.arithmetic import ln, power
from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.kernels.gather import count_at_least, largest_of_blocks
from samplerd_server.sampling.smoothing import FARTHEST, MONOTONE, bend

__all__ = ["bend_bound", "bend_kept", "bend_row", "bends", "dynamic_temperature", "keeps_order"]

_bend = jit(bend)


@jit
def dynamic_temperature(row, h, count):
    """T = low + (high - low) (H / ln V')^exponent; count: V'."""
    share = min(h / ln(np.float64(count)), 1.0) if count > 1 else 0.0
    lift = power(share, row.dynamic_temperature_exponent) if share > 0 else 0.0
    low = max(row.temperature - row.dynamic_temperature_range, 0.0)
    temperature = low + (min(row.temperature + row.dynamic_temperature_range, HOTTEST) - low) * lift
    return max(temperature, COLDEST) if temperature > 0 else 0.0


@jit
def bends(row, temperature):
    """Tell whether logits are smoothed."""
    return row.smoothing_factor > 0 and temperature > 0


@jit
def keeps_order(row):
    """Tell whether smoothing keeps the order of logits, so that something is known of what was not sent."""
    return row.smoothing_factor == 0 or row.smoothing_curve <= MONOTONE


@jit
def _bent(row, y, top, temperature):
    if y == -np.inf:
        return y
    distance = max((np.float64(y) - top) / temperature, FARTHEST)
    return np.float32(clamp(_bend(distance, row.smoothing_factor, row.smoothing_curve)))


@jit
def _as_logit(y, is_weights):
    return np.float32(ln(np.float64(y))) if is_weights else y


@jit
def bend_row(row, work, scratch, top, temperature, is_weights, rest, bound, certain):
    """Bend the whole row x, of which `top` is the largest number.

    Returns the new largest number, what is known of the rest and its bound, and how many are certain to precede it.
    """
    width = np.int64(row.width)
    largest = np.float64(_as_logit(np.float32(top), is_weights))
    for i in range((width + BLOCK - 1) // BLOCK * BLOCK):
        work.x[i] = _bent(row, _as_logit(work.x[i], is_weights), largest, temperature)
    if rest != -np.inf:
        rest = np.nan
        bound = _bent(row, _as_logit(bound, is_weights), largest, temperature)
        certain = count_at_least(work, width, bound)
    return largest_of_blocks(work, width, scratch), rest, bound, certain


@jit
def bend_kept(row, work, count, temperature, is_weights):
    """Bend what the filters kept, y: float32[count]. Returns the number that was the largest."""
    top = np.float32(-np.inf)
    for i in range(count):
        work.y[i] = _as_logit(work.y[i], is_weights)
        top = max(top, work.y[i])
    for i in range(count):
        work.y[i] = _bent(row, work.y[i], np.float64(top), temperature)
    return np.float64(top)


@jit
def bend_bound(row, bound, top, temperature, is_weights):
    """Bend the bound of what was not sent, beside what the filters kept, of which `top` was the largest."""
    return _bent(row, _as_logit(bound, is_weights), top, temperature)
