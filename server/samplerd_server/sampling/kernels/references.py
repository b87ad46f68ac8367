"""A thread's memory by reference, for calls of shared parts.

The records of a thread's memory are tuples of arrays, two hundred words, and a call of a part that is not inlined
writes all of them down. A kernel that writes them once and passes where they lie saves that for each row. Rule 1: a
reference is used while the function that made it runs, and kept nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd_server.sampling.kernels.linked import is_used

if TYPE_CHECKING or not is_used():
    from samplerd_server.sampling.kernels.numba_references import dereference, reference
else:
    from samplerd_server.sampling.kernels.not_compiled import dereference, reference

__all__ = ["dereference", "reference"]
