"""Sharing the rows of a batch out among threads.

Which thread draws a row changes nothing about the row, so the shares only have to be of about the same work.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import kernel

__all__ = ["PER_DRAW", "share_out"]

PER_DRAW = 512
"""Cost of a draw in numbers read: it reads one block again."""


@kernel
def share_out(rows, bounds):
    """Divide rows: ROW[B] into len(bounds) - 1 consecutive shares of about equal work. Returns the numbers read.

    bounds: int64[shares + 1]; share i is rows [bounds[i], bounds[i + 1]).
    """
    work = np.int64(0)
    for i in range(len(rows)):
        work += np.int64(rows[i].width) + np.int64(rows[i].num_samples) * PER_DRAW
    shares = len(bounds) - 1
    done = np.int64(0)
    share = 1
    bounds[0] = 0
    for i in range(len(rows)):
        done += np.int64(rows[i].width) + np.int64(rows[i].num_samples) * PER_DRAW
        while share < shares and done * shares >= work * share:
            bounds[share] = i + 1
            share += 1
    while share <= shares:
        bounds[share] = len(rows)
        share += 1
    return work
