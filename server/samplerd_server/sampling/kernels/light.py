"""Rows of which only samples are wanted and that no filter touches: the plain draw, of the row as penalties leave it.

A row without penalties is read in place. One with penalties is copied once; whether it may be drawn from is checked by
the draw itself, since penalties leave alone what no row may hold.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003 -- kernels have no keywords

from __future__ import annotations

import numpy as np

from samplerd_server.request import Dtype, InputKind
from samplerd_server.sampling.kernels.adjust import has_penalties, penalise
from samplerd_server.sampling.kernels.blocks import TINY, load_block
from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.kernels.filters import FILTERS, is_on
from samplerd_server.sampling.kernels.memory import View

__all__ = ["is_light", "light_view"]

_WEIGHTS, _F32 = int(InputKind.PROBABILITIES), int(Dtype.F32)


@jit
def is_light(row):
    """Tell whether the plain draw is all that a row needs, after penalties."""
    if row.wanted or row.candidate_ids or row.has_bitmask or row.has_allowed or row.bias_len:
        return False
    if row.dynamic_temperature_range > 0:
        return False
    if has_penalties(row) and (row.kind == _WEIGHTS or row.dry_multiplier > 0):
        return False
    for code in FILTERS[row.order]:  # noqa: SIM110 -- kernels have no all()
        if is_on(row, code):
            return False
    return True


@jit
def light_view(row, work):
    """Take a light row to the numbers that are drawn from."""
    width = np.int64(row.width)
    if not has_penalties(row):
        return View(np.uint64(row.data), np.int64(row.dtype), width, row.kind == _WEIGHTS)
    load_block(row.data, row.dtype, 0, width, TINY, work.x)
    penalise(row, work, -np.inf)
    return View(np.uint64(work.x.ctypes.data), np.int64(_F32), width, False)
