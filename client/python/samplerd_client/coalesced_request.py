"""Joins several calls of one row each into one request, and splits the reply into a result for each call.

Every call gets the result that it would have got alone: each row has its own seed in `row_seeds`, which gives it row
index 0, as the only row of a request has, so its noise is the same in both. Rule 1: calls share a request only if they
agree in everything that a request says once (`Key`); parameters may differ. Rule 2: a call gets an error of the joint
request only if it would have got the same error alone; otherwise the call is sent again (`blame`). No clock, no I/O.
"""

from __future__ import annotations

import copy
import os
import re
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import errors
from samplerd_client.result import SampleResult, assemble, samples_of, timing_of
from samplerd_client.status import row_error
from samplerd_client.wire import tensor_header

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from samplerd_client.params import LogprobKind
    from samplerd_client.request import PreparedRequest

__all__ = ["Call", "Key", "blame", "decode", "encode", "key_of"]

_Number = TypeVar("_Number", np.int32, np.float32)

Key: TypeAlias = "tuple[bytes, int, int]"
"""What the calls of one request have in common: the encoded message without seed and parameters, the dtype, and V."""


class Call:
    """A call of one row that waits for its result."""

    __slots__ = ("deadline_s", "prepared", "reply", "row", "seed", "setbacks", "size")

    def __init__(self, prepared: PreparedRequest, reply: Future[SampleResult | None], deadline_s: float) -> None:
        assert prepared.rows is not None, "only a call with dense rows is coalesced. This is a bug."
        self.prepared = prepared
        self.reply = reply
        """Resolves to the result, or to None when the call has to be made alone."""
        self.deadline_s = deadline_s
        """On the monotonic clock; inf = none."""
        self.row = bytes(prepared.rows.data)
        self.size = len(self.row) + len(prepared.template.parts.row_params)
        """Bytes that the call adds to a request."""
        self.seed = prepared.seed
        """None = the server draws one. Before a call without a seed is joined with others, the client draws one."""
        self.setbacks = 0
        """How many of its requests have failed because of another call in them."""

    @property
    def is_wanted(self) -> bool:
        """Whether its caller still waits."""
        return not self.reply.done()

    def settle(self, outcome: SampleResult | errors.SamplerdError | None) -> None:
        """Hand the outcome to the caller, if it still waits."""
        if isinstance(outcome, errors.SamplerdError):
            self.fail(outcome)
        elif not self.reply.done():
            self.reply.set_result(outcome)

    def fail(self, error: Exception) -> None:
        """Hand an exception to the caller, if it still waits."""
        if not self.reply.done():
            self.reply.set_exception(error)


def key_of(prepared: PreparedRequest) -> Key | None:
    """Return what calls must have in common to share a request with this one; None = this one is sent alone."""
    rows, template = prepared.rows, prepared.template
    if rows is None or rows.rows != 1 or template.is_row_wise or prepared.guidance is not None:
        return None
    return (template.parts.common, rows.dtype, rows.vocab_size)


def encode(calls: Sequence[Call]) -> bytes:
    """Return the bytes of one request for these calls, which have the same key."""
    first = calls[0].prepared
    own, rows = first.template.parts, first.rows
    assert rows is not None, "only calls with dense rows are coalesced. This is a bug."
    message = pb.SampleRequest()
    if len(calls) == 1:
        if first.seed is not None:
            message.seed = first.seed
    else:
        message.row_seeds.extend(_seeds(calls))
    parts = [own.common, message.SerializeToString()]
    others = [call.prepared.template.parts for call in calls]
    if all(other is own or other.params == own.params for other in others):
        parts.append(own.params)
    else:
        parts.extend([other.row_params for other in others])
    size = len(calls) * len(calls[0].row)
    field = pb.SampleRequest.TENSOR_FIELD_NUMBER
    parts.append(tensor_header(field, rows.dtype, len(calls), rows.vocab_size, size))
    parts.extend([call.row for call in calls])
    return b"".join(parts)


def _seeds(calls: Sequence[Call]) -> list[int]:
    unseeded = [call for call in calls if call.seed is None]
    if unseeded:
        fresh = np.frombuffer(os.urandom(8 * len(unseeded)), np.uint64).tolist()
        for call, seed in zip(unseeded, fresh, strict=True):
            call.seed = seed
    return [call.seed for call in calls if call.seed is not None]


def decode(response: pb.SampleResponse, calls: Sequence[Call]) -> list[SampleResult | errors.SamplerdError]:
    """Return the outcome of each call.

    Raises:
        InternalError: the reply does not fit the request.

    """
    template = calls[0].prepared.template
    if len(calls) == 1:
        return [assemble([response], template)]
    outcomes: list[SampleResult | errors.SamplerdError]
    if template.is_plain:
        outcomes = _plain_results(response, calls, template.num_samples)
    else:
        whole = assemble([response], template)
        _check_rows(whole, len(calls))
        outcomes = [_row_of(whole, at, call.seed) for at, call in enumerate(calls)]
    for failed in response.row_errors:
        if not failed.row < len(calls):
            raise errors.InternalError(f"the reply names row {failed.row} of {len(calls)}")
        outcomes[failed.row] = _failure(row_error(failed))
    return outcomes


def _plain_results(
    response: pb.SampleResponse, calls: Sequence[Call], width: int
) -> list[SampleResult | errors.SamplerdError]:
    samples = samples_of(response)
    if len(samples) != len(calls) * width:
        raise errors.InternalError(f"the reply has {len(samples)} samples for {len(calls)} rows x {width}")
    rng, timing = response.rng, timing_of(response.timing)
    return [
        SampleResult(samples=own.copy(), seed=call.seed or 0, rng=rng, timing=timing)
        for call, own in zip(calls, samples.reshape(-1, 1, width), strict=True)
    ]


def _check_rows(whole: SampleResult, rows: int) -> None:
    arrays: list[NDArray[Any] | None] = [
        *(whole.samples, whole.ranks, whole.kept_count, whole.kept_mass),
        *(whole.adaptive_weighted_sum, whole.adaptive_total_weight),
    ]
    for values in (whole.logprobs, whole.top_logprobs, whole.named_logprobs, whole.entropies):
        arrays.extend(values.values())
    arrays.extend(whole.top_ids.values())
    if any(array is not None and len(array) != rows for array in arrays):
        raise errors.InternalError(f"the reply does not fit the request: it is not of {rows} rows")


def _row_of(whole: SampleResult, at: int, seed: int | None) -> SampleResult:
    own = slice(at, at + 1)
    sums, weights = whole.adaptive_weighted_sum, whole.adaptive_total_weight
    return SampleResult(
        samples=whole.samples[own].copy(),
        seed=seed or 0,
        rng=whole.rng,
        timing=whole.timing,
        logprobs=_cut(whole.logprobs, own),
        top_ids=_cut(whole.top_ids, own),
        top_logprobs=_cut(whole.top_logprobs, own),
        named_logprobs=_cut(whole.named_logprobs, own),
        ranks=None if whole.ranks is None else whole.ranks[own].copy(),
        entropies=_cut(whole.entropies, own),
        kept_count=None if whole.kept_count is None else whole.kept_count[own].copy(),
        kept_mass=None if whole.kept_mass is None else whole.kept_mass[own].copy(),
        adaptive_weighted_sum=None if sums is None else sums[own].copy(),
        adaptive_total_weight=None if weights is None else weights[own].copy(),
    )


def _cut(values: dict[LogprobKind, NDArray[_Number]], own: slice) -> dict[LogprobKind, NDArray[_Number]]:
    return {kind: array[own].copy() for kind, array in values.items()}


def _failure(error: errors.RowError) -> errors.RowsFailedError:
    """Return the error that the server gives a request whose only row fails like this."""
    text = f"row[0]: the only row failed: {error.message}"
    own = errors.RowError(row=0, reason=error.reason, message=error.message[:256], code=error.code)
    return errors.RowsFailedError(text, reason="ALL_ROWS_FAILED", row_errors=(own,))


_OF_ALL = (
    errors.OverloadedError,
    errors.UnavailableError,
    errors.DeadlineError,
    errors.ConnectionLostError,
    errors.UnauthenticatedError,
    errors.PermissionDeniedError,
)
"""Failures that do not depend on what the request says: every call in it gets them."""

_COMMON_FIELD = re.compile(r"(params|outputs)\.|(draw_offset|priority)$")
"""Fields whose value is the same in every call of the request: every call gets the error."""

_ROW_FIELD = re.compile(r"row_params\[(\d+)\]\.")
"""A field of the parameters of one call: that call gets the error."""


def blame(error: errors.SamplerdError, calls: Sequence[Call]) -> dict[int, errors.SamplerdError]:
    """Return the error of each call that caused the failure of their request, by the call's place in it.

    The other calls have to be sent again; if no call is named, each has to be sent alone.
    """
    if len(calls) == 1:
        return {0: error}
    if isinstance(error, errors.RowsFailedError):
        return {failed.row: _failure(failed) for failed in error.row_errors if failed.row < len(calls)}
    field = ""
    if isinstance(error, errors.InvalidRequestError) and len(error.violations) == 1:
        field = error.violations[0].field
    elif isinstance(error, errors.NotImplementedFieldError):
        field = error.name
    if isinstance(error, _OF_ALL) or _COMMON_FIELD.match(field):
        return {at: _copy(error) for at in range(len(calls))}
    named = _ROW_FIELD.match(field)
    if named is None or not int(named[1]) < len(calls):
        return {}
    return {int(named[1]): _renamed(error, named[0])}


def _renamed(error: errors.SamplerdError, prefix: str) -> errors.SamplerdError:
    """Return the error with ``params.`` in place of ``row_params[3].``: the field's name in the call's own request."""
    own = _copy(error)
    own.message = own.message.replace(prefix, "params.")
    own.args = (own.message,)
    if isinstance(own, errors.InvalidRequestError):
        own.violations = tuple(
            errors.FieldViolation(field=entry.field.replace(prefix, "params."), description=entry.description)
            for entry in own.violations
        )
    if isinstance(own, errors.NotImplementedFieldError):
        own.name = own.name.replace(prefix, "params.")
    return own


def _copy(error: errors.SamplerdError) -> errors.SamplerdError:
    """Return an exception of its own for each caller: a traceback belongs to one."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
