"""Outputs: what a request asks for beside its samples."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

from samplerd_server.core.entity import entity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samplerd_server.core.enums import LogprobKind

__all__ = ["NOTHING", "NO_OUTPUTS", "OutputFlags", "Outputs"]


class OutputFlags(IntFlag):
    """The outputs of a request as bits, which kernels test."""

    RAW = 1 << 0
    SCALED = 1 << 1
    PROCESSED = 1 << 2
    RANK = 1 << 3
    KEPT = 1 << 4
    ENTROPY_RAW = 1 << 5
    ENTROPY_SCALED = 1 << 6
    ENTROPY_PROCESSED = 1 << 7
    ADAPTIVE = 1 << 8


NOTHING = OutputFlags(0)
"""No output beside the samples."""


@entity
class Outputs:
    """What to return beside the samples."""

    raw_samples: bool = False
    logprobs: tuple[LogprobKind, ...] = ()
    """Distinct, ascending."""
    top_n: int = 0
    logprob_ids: NDArray[np.int32] | None = None
    rank: bool = False
    entropy: tuple[LogprobKind, ...] = ()
    """Distinct, ascending."""
    kept: bool = False
    adaptive_state: bool = False

    output_flags: OutputFlags = NOTHING
    """The fields above as bits. Set at decode."""


NO_OUTPUTS = Outputs()
"""The outputs of every request that asks for none: compared by identity."""
