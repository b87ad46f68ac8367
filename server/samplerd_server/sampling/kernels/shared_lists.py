"""What the lists of a row come to, remembered for the next rows of a batch that have the same lists.

A request may give one history to thousands of rows. What is listed of it, the distinct tokens and a number for each,
is then worked out for the first two rows only: the second time shows that it is worth keeping, as it is at once where
little is listed of much. Rule 1: lists are the same if their addresses, their lengths and all that they are read by
are. Rule 2: addresses say nothing once their batch is gone, so `Workspace.full` forgets before each call of a kernel.
"""

# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

import numpy as np

from samplerd_server.sampling.kernels.compile import jit
from samplerd_server.sampling.kernels.work import SHARED_KEY

__all__ = ["BANS", "DRY", "PENALTIES", "UNKNOWN", "recall", "remember"]

PENALTIES, DRY, BANS = 0, 1, 2
"""The lists that are remembered, one of each."""
UNKNOWN = -1
_FEW_OF = 16
"""Of as many items as these, one that is listed takes no time to keep."""
_SEEN = -2
"""Not remembered, but the row before had the same lists."""


@jit
def recall(work, which, key):
    """List tokens in members, and their numbers in counts, as the row before did. Returns how many, or less than 0.

    key: uint64[SHARED_KEY - 1] as a tuple: what the list depends on. Less than 0 is what `remember` takes.
    """
    keys, base = work.shared_keys, which * SHARED_KEY
    is_known = True
    for j in range(SHARED_KEY - 1):
        is_known &= keys[base + j] == key[j]
        keys[base + j] = key[j]
    if not is_known:
        keys[base + SHARED_KEY - 1] = 0
        return np.int64(UNKNOWN)
    listed = np.int64(keys[base + SHARED_KEY - 1]) - 1
    if listed < 0:
        return np.int64(_SEEN)
    first = which * np.int64(len(work.counts))
    for i in range(listed):
        token = work.shared_ids[first + i]
        work.members[i] = token
        work.counts[token] = work.shared_values[first + i]
    return listed


@jit
def remember(work, which, known, listed, length):
    """Keep what members and counts hold, if `known`, the answer of `recall`, says that it is worth it.

    Also where few are listed of `length` items, since copying them then takes little time beside listing them.
    """
    if known != _SEEN and _FEW_OF * listed > length:
        return
    first = which * np.int64(len(work.counts))
    for i in range(listed):
        token = work.members[i]
        work.shared_ids[first + i] = token
        work.shared_values[first + i] = work.counts[token]
    work.shared_keys[which * SHARED_KEY + SHARED_KEY - 1] = np.uint64(listed + 1)
