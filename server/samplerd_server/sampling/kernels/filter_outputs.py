"""How much of a row the filters kept: how many categories, and their mass in the scaled distribution."""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003, PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import LogprobKind
from samplerd_server.sampling.kernels.blocks import BLOCK, sum_half
from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.kernels.exp2 import exp
from samplerd_server.sampling.kernels.outputs import load_number, normaliser, relative
from samplerd_server.sampling.kernels.positions import to_source
from samplerd_server.sampling.kernels.shapes import is_shaped

__all__ = ["write_kept"]

_PROCESSED = int(LogprobKind.PROCESSED) - 1


@jit
def _share(kind, at, top, whole):
    return exp(relative(kind, np.int64(at), top) - whole)


@jit
def _sum_kept(scaled, count, top, whole, work, scratch):
    """Sum the probabilities of what is kept, work.at: by halving within blocks, then in order of blocks."""
    mass, half = 0.0, scratch.half
    for low in range(0, count, BLOCK):
        for i in range(BLOCK // 2):
            at = low + i
            first = _share(scaled, work.at[at], top, whole) if at < count else 0.0
            at += BLOCK // 2
            half[i] = first + (_share(scaled, work.at[at], top, whole) if at < count else 0.0)
        mass += sum_half(half)
    return mass


@jit
def write_kept(i, row, kept, positions, out, work, scratch):
    """Write how many the filters kept, and their mass in the scaled distribution."""
    scaled, final = kept.scaled, kept.final
    if row.temperature == 0:
        count = np.int64(row.num_samples) if row.without else 1
        top, whole = normaliser(scaled, False, scratch)
        mass = 0.0
        for d in range(count):
            mass += exp(relative(scaled, to_source(kept, _PROCESSED, work, positions[d]), top) - whole)
        out.kept_count[i] = count
        out.kept_mass[i] = np.nan if np.isnan(scaled.rest) else min(mass, 1.0)
        return
    if final.rest != -np.inf:
        out.kept_count[i] = 0
        out.kept_mass[i] = 1.0 if not kept.is_filtered else np.nan
        return
    if kept.is_filtered:
        out.kept_count[i] = final.numbers.width
    else:
        least = np.float32(1e-45) if final.numbers.is_weights else np.float32(-3.4028234663852886e38)
        count = np.int64(0)
        for at in range(final.numbers.width):
            count += load_number(final.numbers, at) >= least
        out.kept_count[i] = count
    if not kept.is_filtered:
        out.kept_mass[i] = 1.0
    elif np.isnan(scaled.rest):
        out.kept_mass[i] = np.nan
    elif final.temperature == 0:
        out.kept_mass[i] = 1.0 if np.int64(work.at[final.first]) == scaled.first else 0.0
    elif row.smoothing_factor > 0 or is_shaped(row):  # what is drawn from has other logits than what is scaled
        top, whole = normaliser(scaled, False, scratch)
        out.kept_mass[i] = min(_sum_kept(scaled, final.numbers.width, top, whole, work, scratch), 1.0)
    else:
        top, whole = normaliser(scaled, False, scratch)
        own_top, own = normaliser(final, False, scratch)
        out.kept_mass[i] = min(exp((own_top - top) + (own - whole)), 1.0)
