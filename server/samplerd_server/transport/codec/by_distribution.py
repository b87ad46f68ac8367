"""The arrow from a SampleRequest that names a distribution to a `SampleRequest` of its rows.

`Decoder` checks everything that is not about the rows, as in every request. Here the name becomes rows, and a request
is refused if it contradicts what was fixed at the upload: the kind, and perhaps the parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.parts import PER_SAMPLE
from samplerd_server.core.errors import InvalidRequestError, SamplerdError
from samplerd_server.core.outputs import NOTHING
from samplerd_server.sampling.parameters import has_random_filter
from samplerd_server.sampling.price import INDEXED_DRAW, work_of
from samplerd_server.transport.codec.decode_params import decode_params

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import StoredRows
    from samplerd_server.distributions.segment import Description
    from samplerd_server.transport.codec.decode import Decoder

__all__ = ["DistributionDecoder", "check_name", "decode_fixed_params", "with_cdf_index"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)


def check_name(name: str, path: str) -> str:
    """Check the name of a distribution; `path` is where it stands in the request.

    Raises:
        InvalidRequestError: no distribution can have this name.

    """
    if _NAME.fullmatch(name) is None:
        raise InvalidRequestError(path, "must be 1 to 128 of A-Z a-z 0-9 . _ -")
    return name


def decode_fixed_params(description: Description, decoder: Decoder) -> SamplingParams:
    """Decode the parameters that were fixed at the upload, and checked then."""
    assert description.params is not None, "the distribution has no fixed parameters. This is a bug."
    return decode_params(
        pb.SamplingParams.FromString(description.params), "params", decoder.context(description.vocab_size)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionDecoder:
    """Decodes requests whose source is `distribution`."""

    decoder: Decoder
    """Checks everything but the rows; its limits.max_samples bounds a draw that can be drawn part by part."""
    find: Callable[[str], StoredRows]
    """Gives the rows of this name, or raises NotFoundError."""
    max_undivided: int
    """The most samples of a request that cannot be drawn part by part."""

    def decode(self, message: pb.SampleRequest) -> SampleRequest:
        """Check one request.

        Raises:
            NotFoundError: there is no distribution of this name.
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        rows = self.find(check_name(message.distribution, "distribution"))
        try:
            return self._decode(message, rows)
        except SamplerdError as error:
            # The frames of its traceback would keep the rows in memory for as long as somebody holds the error.
            error.__traceback__ = None
            del rows
            raise

    def _decode(self, message: pb.SampleRequest, rows: StoredRows) -> SampleRequest:
        request = self.decoder.decode_with(message, rows)
        if message.kind and request.kind is not rows.kind:
            raise InvalidRequestError(
                "kind", f"the numbers of distribution {rows.name} are INPUT_KIND_{rows.kind.name}: leave it out"
            )
        params = self._params(message, rows, request)
        is_divisible = _is_divisible(request, params, has_fixed_params=rows.params is not None)
        if request.samples > self.max_undivided and not is_divisible:
            raise InvalidRequestError(
                "num_samples",
                f"{request.samples} samples are more than {self.max_undivided}: so many can only be drawn with "
                "replacement, by fixed parameters or a temperature alone, without XTC and without outputs per row",
            )
        greedy_rows = request.greedy_rows if rows.params is None else rows.rows * params[0].is_greedy
        whole = replace(request, kind=rows.kind, params=params, is_divisible=is_divisible, greedy_rows=greedy_rows)
        work = work_of(rows, request.num_samples, params, rows.kind, request.with_replacement, request.outputs)
        return with_cdf_index(replace(whole, work=work), rows)

    @staticmethod
    def _params(message: pb.SampleRequest, rows: StoredRows, request: SampleRequest) -> tuple[SamplingParams, ...]:
        if rows.params is None:
            return request.params
        for field, is_set in (("params", message.HasField("params")), ("row_params", bool(message.row_params))):
            if is_set:
                raise InvalidRequestError(
                    field, f"the parameters of distribution {rows.name} were fixed at its upload: send none"
                )
        return (rows.params,)


def with_cdf_index(request: SampleRequest, rows: StoredRows) -> SampleRequest:
    """Let a request draw from the CDF index of its rows, if there is one that has the law and the outputs it wants."""
    if rows.cdf_index is None:
        return request
    if not _can_use_cdf_index(request, request.params, has_fixed_params=rows.params is not None):
        return request
    return replace(request, cdf_index=rows.cdf_index, work=request.samples * INDEXED_DRAW)


def _is_divisible(request: SampleRequest, params: tuple[SamplingParams, ...], *, has_fixed_params: bool) -> bool:
    outputs = request.outputs
    return (
        request.with_replacement
        and not outputs.output_flags & ~PER_SAMPLE
        and not outputs.top_n
        and outputs.logprob_ids is None
        and (not has_random_filter(params[0]) if has_fixed_params else all(own.is_plain for own in params))
    )


def _can_use_cdf_index(request: SampleRequest, params: tuple[SamplingParams, ...], *, has_fixed_params: bool) -> bool:
    """Whether a draw from the CDF index has the law that is asked for, and every output that is asked for."""
    if not request.with_replacement or request.outputs.output_flags != NOTHING:
        return False
    return has_fixed_params or all(own.is_plain and own.temperature == 1.0 for own in params)
