"""The arrow from the fields beside a message's rows to a `SampleRequest`, whatever message has those fields.

SampleRequest, VerifyDraftRequest and CreateDistributionRequest share most of them; each caller takes what its message
has. The errors name the field as every one of these messages does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from samplerd_server.core.enums import InputKind
from samplerd_server.core.errors import InvalidRequestError
from samplerd_server.core.outputs import NO_OUTPUTS, Outputs
from samplerd_server.core.request import SampleRequest
from samplerd_server.sampling.price import work_of
from samplerd_server.transport.codec.decode_params import DEFAULT_PARAMS, decode_params
from samplerd_server.transport.codec.fresh_seed import fresh_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd.v1 import sampler_pb2 as pb
    from samplerd_server.config import LimitsConfig
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.rows import CandidateRows, DenseRows, StoredRows
    from samplerd_server.transport.codec.decode_ids import ParamsContext
    from samplerd_server.transport.codec.scanned import Scanned

__all__ = [
    "DEFAULT",
    "Scalars",
    "check_request",
    "decode_row_params",
    "decode_row_seeds",
    "decode_seed",
    "decode_shared_params",
]

DEFAULT: tuple[SamplingParams, ...] = (DEFAULT_PARAMS,)
"""The parameters of a request that brings none."""
_KINDS = {0: InputKind.LOGITS, 1: InputKind.LOGITS, 2: InputKind.PROBABILITIES}
_WITH_REPLACEMENT = {0: True, 1: True, 2: False}
_PRIORITIES = range(-100, 101)


class Scalars(NamedTuple):
    """The single numbers of a message, by the names of SampleRequest's fields; 0 = absent, as in the contract."""

    id: int = 0
    num_samples: int = 0
    replacement: int = 0
    kind: int = 0
    draw_offset: int = 0
    priority: int = 0


def check_request(
    message: pb.SampleRequest | Scanned | Scalars,
    source: DenseRows | CandidateRows | StoredRows,
    limits: LimitsConfig,
    *,
    params: tuple[SamplingParams, ...],
    seed: int,
    outputs: Outputs = NO_OUTPUTS,
    row_seeds: NDArray[np.uint64] | None = None,
    load: Callable[[], None] | None = None,
    guidance: DenseRows | None = None,
) -> SampleRequest:
    """Check the scalars of a message, and put the request together.

    Args:
        message: has the scalars.
        source: the rows, checked.
        limits: max_samples bounds rows x samples.
        params: checked; one for all rows, or one for each.
        seed: of all rows, unless `row_seeds` has one for each.
        outputs: checked.
        row_seeds: uint64[B].
        load: what brings the numbers of the rows in once the request is admitted; None = they are there.
        guidance: the guidance rows, checked; None = no row is guided.

    Raises:
        InvalidRequestError: a field is out of range or contradicts another.

    """
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise InvalidRequestError("kind", f"{int(message.kind)} is not a known InputKind")
    with_replacement = _WITH_REPLACEMENT.get(message.replacement)
    if with_replacement is None:
        raise InvalidRequestError("replacement", f"{int(message.replacement)} is not a known Replacement")
    priority, draw_offset = message.priority, message.draw_offset
    if priority not in _PRIORITIES:
        raise InvalidRequestError("priority", f"{priority} is not in [-100, 100]")
    rows, num_samples = source.rows, message.num_samples or 1
    if rows * num_samples > limits.max_samples:
        raise InvalidRequestError(
            "num_samples", f"{rows} rows x {num_samples} samples are more than the limit of {limits.max_samples}"
        )
    if outputs is not NO_OUTPUTS:
        _check_outputs(outputs, rows, limits)
    if draw_offset:
        if not with_replacement:
            raise InvalidRequestError("draw_offset", "must be 0 without replacement")
        if draw_offset + num_samples > 1 << 64:
            raise InvalidRequestError("draw_offset", "the index of the last draw is beyond 2^64 - 1")
    return SampleRequest(
        id=message.id,
        source=source,
        params=params,
        greedy_rows=rows * params[0].is_greedy if len(params) == 1 else sum(own.is_greedy for own in params),
        guidance=guidance,
        work=work_of(source, num_samples, params, kind, with_replacement, outputs),
        num_samples=num_samples,
        with_replacement=with_replacement,
        kind=kind,
        seed=seed,
        row_seeds=row_seeds,
        draw_offset=draw_offset,
        outputs=outputs,
        priority=priority,
        load=load,
    )


def _check_outputs(outputs: Outputs, rows: int, limits: LimitsConfig) -> None:
    """Bound what is returned of every row beside its samples, as the samples are bounded."""
    if rows * outputs.top_n > limits.max_samples:
        raise InvalidRequestError(
            "outputs.top_n", f"{rows} rows x {outputs.top_n} ids are more than the limit of {limits.max_samples}"
        )
    named = 0 if outputs.logprob_ids is None else len(outputs.logprob_ids)
    if rows * named > limits.max_samples:
        raise InvalidRequestError(
            "outputs.logprob_ids", f"{rows} rows x {named} ids are more than the limit of {limits.max_samples}"
        )


def decode_seed(message: pb.SampleRequest | pb.VerifyDraftRequest) -> int:
    """Give the seed of a message, or a random one if it brings none."""
    return message.seed if message.HasField("seed") else fresh_seed()


def decode_row_seeds(message: pb.SampleRequest, rows: int) -> NDArray[np.uint64] | None:
    """Give the seeds of the rows; None: they share one.

    Raises:
        InvalidRequestError: there are more or fewer than rows, or a seed for all beside them.

    """
    if not message.row_seeds:
        return None
    if message.HasField("seed"):
        raise InvalidRequestError("row_seeds", "not together with seed")
    if len(message.row_seeds) != rows:
        raise InvalidRequestError("row_seeds", f"{len(message.row_seeds)} seeds for {rows} rows")
    return np.array(message.row_seeds, np.uint64)


def decode_row_params(
    message: pb.SampleRequest | pb.VerifyDraftRequest, rows: int, context: ParamsContext
) -> tuple[SamplingParams, ...]:
    """Check the parameters of a message: one for all rows, or one for each.

    Raises:
        InvalidRequestError: there are more or fewer than rows, or both kinds; a value is out of range.
        NotImplementedFieldError: a field is set that the sampler cannot honour.

    """
    if not message.row_params:
        return decode_shared_params(message, context)
    if message.HasField("params"):
        raise InvalidRequestError("row_params", "not together with params")
    if len(message.row_params) != rows:
        raise InvalidRequestError("row_params", f"{len(message.row_params)} parameters for {rows} rows")
    return tuple(decode_params(own, f"row_params[{row}]", context) for row, own in enumerate(message.row_params))


def decode_shared_params(
    message: pb.SampleRequest | pb.VerifyDraftRequest | pb.CreateDistributionRequest, context: ParamsContext
) -> tuple[SamplingParams, ...]:
    """Check the parameters that all rows of a message share; the default ones if it brings none.

    Raises:
        InvalidRequestError: a value is out of range or contradicts another.
        NotImplementedFieldError: a field is set that the sampler cannot honour.

    """
    return (decode_params(message.params, "params", context),) if message.HasField("params") else DEFAULT
