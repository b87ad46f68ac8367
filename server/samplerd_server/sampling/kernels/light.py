"""Light rows: no filter is on, and samples with log-probabilities are all that they ask for; the plain draw does them.

A draw has already summed the masses that its log-probability is relative to, so that a log-probability at the row's own
temperature costs no second pass. A row without penalties is read in place. One with penalties is copied once; whether
it may be drawn from is checked by the draw itself, since penalties leave alone what no row may hold.
"""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: FBT003 -- kernels have no keywords

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import Dtype, InputKind, LogprobKind
from samplerd_server.core.outputs import OutputFlags
from samplerd_server.sampling import shapes
from samplerd_server.sampling.kernels.adjust import has_mask, has_penalties, penalise
from samplerd_server.sampling.kernels.blocks import TINY, load_block
from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.kernels.filter_table import filters_on
from samplerd_server.sampling.kernels.memory import View

__all__ = ["is_light", "light_view"]

is_shaped = jit(shapes.is_shaped)

_WEIGHTS, _F32 = int(InputKind.PROBABILITIES), int(Dtype.F32)
_LOGPROBS = np.uint32(sum(OutputFlags.RAW << (kind - 1) for kind in LogprobKind))


@jit
def is_light(row):
    """Tell whether the plain draw is all that a row needs, after penalties."""
    if row.output_flags & ~_LOGPROBS or row.top_n or row.named_len:
        return False
    if row.candidate_ids or row.guidance or has_mask(row) or row.bias_ids_len:
        return False
    if row.dynamic_temperature_range > 0 or row.smoothing_factor > 0 or is_shaped(row):
        return False
    if has_penalties(row) and (row.kind == _WEIGHTS or row.dry_multiplier > 0):
        return False
    return filters_on(row) == 0


@jit
def light_view(row, work):
    """Return the numbers that a light row is drawn from, after penalties."""
    width = np.int64(row.width)
    if not has_penalties(row):
        return View(np.uint64(row.data), np.int64(row.dtype), width, row.kind == _WEIGHTS)
    load_block(row.data, row.dtype, 0, width, TINY, work.x)
    penalise(row, work, -np.inf)
    return View(np.uint64(work.x.ctypes.data), np.int64(_F32), width, False)
