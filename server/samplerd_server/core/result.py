"""The results of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from samplerd_server.core.entity import entity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samplerd_server.core.enums import LogprobKind, RowErrorReason

__all__ = ["LogprobValues", "RowError", "SampleResult", "Timing", "VerifyResult"]


@entity
class RowError:
    """The error of one row."""

    row: int
    reason: RowErrorReason
    message: str


@entity
class LogprobValues:
    """Log-probabilities of one kind; see the proto's Logprobs."""

    kind: LogprobKind
    samples: NDArray[np.float32]
    """float32[B * S]."""
    top_ids: NDArray[np.int32] | None
    """int32[B * top_n]."""
    top: NDArray[np.float32] | None
    """float32[B * top_n]."""
    named: NDArray[np.float32] | None
    """float32[B * ids]."""


class Timing(NamedTuple):
    """The seconds that a request spent in the queue and in the sampler, and the rows of its batch."""

    queue_s: float
    compute_s: float
    batch_rows: int


@entity
class SampleResult:
    """The result of a `SampleRequest`."""

    samples: NDArray[np.int32]
    """int32[B * S]; -1 for failed rows."""
    row_errors: tuple[RowError, ...]
    timing: Timing
    logprobs: tuple[LogprobValues, ...] = ()
    ranks: NDArray[np.int32] | None = None
    """int32[B * S]; 0 for failed rows."""
    entropies: tuple[tuple[LogprobKind, NDArray[np.float32]], ...] = ()
    kept_count: NDArray[np.int32] | None = None
    kept_mass: NDArray[np.float32] | None = None
    adaptive_weighted_sum: NDArray[np.float64] | None = None
    """float64[B * S]: the next state of adaptive-p, if the sequence goes on with this sample; NaN for failed rows."""
    adaptive_total_weight: NDArray[np.float64] | None = None
    """float64[B * S]: the other half of that state."""


@entity
class VerifyResult:
    """The result of a `VerifyRequest`."""

    samples: tuple[int, ...]
    """The accepted tokens and, unless a row failed, one more token."""
    path: tuple[int, ...]
    """Indices of the accepted tokens in the draft, from the first on: each is the parent of the next."""
    row_errors: tuple[RowError, ...]
    timing: Timing
