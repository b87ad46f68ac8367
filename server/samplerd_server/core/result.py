"""The results of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from samplerd_server.core.entity import entity

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    @property
    def per_sample_bytes(self) -> int:
        """Bytes of the arrays with a number for each sample."""
        arrays = (self.samples, self.ranks, self.adaptive_weighted_sum, self.adaptive_total_weight)
        return _bytes_of(arrays) + _bytes_of(own.samples for own in self.logprobs)

    @property
    def held_bytes(self) -> int:
        """Bytes that the result keeps in memory, if its arrays are its own: see `detached`."""
        held = self.per_sample_bytes + _bytes_of((self.kept_count, self.kept_mass))
        held += sum(_bytes_of((own.top_ids, own.top, own.named)) for own in self.logprobs)
        held += _bytes_of(nats for _, nats in self.entropies)
        return held + sum(_ROW_ERROR_BYTES + len(error.message) for error in self.row_errors)

    def detached(self) -> SampleResult:
        """Give the same result without the arrays of its batch: those of which it is a part are copied."""
        return SampleResult(
            samples=_own(self.samples),
            row_errors=self.row_errors,
            timing=self.timing,
            logprobs=tuple(
                LogprobValues(
                    kind=own.kind,
                    samples=_own(own.samples),
                    top_ids=_own_or_none(own.top_ids),
                    top=_own_or_none(own.top),
                    named=_own_or_none(own.named),
                )
                for own in self.logprobs
            ),
            ranks=_own_or_none(self.ranks),
            entropies=tuple((kind, _own(nats)) for kind, nats in self.entropies),
            kept_count=_own_or_none(self.kept_count),
            kept_mass=_own_or_none(self.kept_mass),
            adaptive_weighted_sum=_own_or_none(self.adaptive_weighted_sum),
            adaptive_total_weight=_own_or_none(self.adaptive_total_weight),
        )


_ROW_ERROR_BYTES = 192
"""What a `RowError` takes beside the letters of its message: two objects and a place in a tuple."""
_T = TypeVar("_T", bound="np.generic")


def _bytes_of(arrays: Iterable[NDArray[Any] | None]) -> int:
    return sum(array.nbytes for array in arrays if array is not None)


def _own(values: NDArray[_T]) -> NDArray[_T]:
    """Give the same numbers in an array that keeps no larger one in memory."""
    base = values.base
    return values if base is None or getattr(base, "nbytes", values.nbytes) <= values.nbytes else values.copy()


def _own_or_none(values: NDArray[_T] | None) -> NDArray[_T] | None:
    return None if values is None else _own(values)


@entity
class VerifyResult:
    """The result of a `VerifyRequest`."""

    samples: tuple[int, ...]
    """The accepted tokens and, unless a row failed, one more token."""
    path: tuple[int, ...]
    """Indices of the accepted tokens in the draft, from the first on: each is the parent of the next."""
    row_errors: tuple[RowError, ...]
    timing: Timing
