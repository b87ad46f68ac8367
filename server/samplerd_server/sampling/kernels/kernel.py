"""The kernel for plain rows that ask for samples only, as most do."""

# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0917 -- kernels have no keywords, and branch where a row does

from __future__ import annotations

import numpy as np

from samplerd_server.core.enums import InputKind
from samplerd_server.sampling.kernels.blocks import BLOCK
from samplerd_server.sampling.kernels.compile import carray, int32_at, kernel, short_kernel
from samplerd_server.sampling.kernels.memory import Noise, View, cut_scratch
from samplerd_server.sampling.kernels.philox import DRAW
from samplerd_server.sampling.kernels.plain import draw_view

__all__ = ["draw_few", "draw_plain"]

_WEIGHTS = int(InputKind.PROBABILITIES)


@kernel
def draw_plain(rows, begin, end, samples, status, detail, space):
    """Draw from the plain rows of rows: ROW[B] in [begin, end) that want samples only; the others get status -1.

    samples: int32, flat; status: int32[B]; detail: int64[B]; space: see workspace.py. Returns the width of the
    widest row, or of the largest vocabulary, if there is no room for it (then nothing was drawn), else minus how many
    rows got -1: one number, since two would make a tuple.
    """
    scratch = cut_scratch(space)
    room = len(scratch.taken) * 64
    widest = 0
    for i in range(begin, end):
        widest = max(widest, rows[i].width, rows[i].vocab_size)
    if widest > room:
        return np.int64(widest)
    left = np.int64(0)
    first = np.uint64(samples.ctypes.data)
    for i in range(begin, end):
        row = rows[i]
        if not row.plain or row.output_flags:
            status[i] = -1
            left += 1
            continue
        view = View(np.uint64(row.data), np.int64(row.dtype), np.int64(row.width), row.kind == _WEIGHTS)
        own = carray(int32_at(first + np.uint64(4 * row.sample_at)), row.num_samples)
        noise = Noise(row.seed, row.draw_offset, row.row_index, np.int64(DRAW))
        status[i], detail[i], _, _ = draw_view(
            view, row.temperature, np.int64(row.num_samples), row.without != 0, -np.inf, noise, own, scratch
        )
        if status[i] != 0:
            own[:] = -1
    return -left


@short_kernel
def draw_few(rows, begin, end, samples, status, detail, space):
    """Do what `draw_plain` does, without releasing the interpreter lock."""
    return draw_plain(rows, begin, end, samples, status, detail, space)


assert BLOCK % 64 == 0, "a block's bits are whole words. This is a bug."
