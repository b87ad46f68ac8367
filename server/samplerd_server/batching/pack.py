"""Packing requests into a `RowBatch`, and unpacking its `RowResults` into one result for each request.

Packing copies no row: a record says where the numbers lie, and the batch keeps the requests' buffers alive. Event-loop
thread; pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from samplerd_server.batching.repeat import repeat
from samplerd_server.batching.row_errors import row_errors
from samplerd_server.core.buffers import address_of
from samplerd_server.core.outputs import NO_OUTPUTS, NOTHING, OutputFlags
from samplerd_server.core.result import LogprobValues, SampleResult
from samplerd_server.core.rows import CandidateRows, DenseRows
from samplerd_server.sampling.adaptive_state import next_states
from samplerd_server.sampling.parameters.record import LISTS, lists_of, numbers_of
from samplerd_server.sampling.rows import COLD, COLD_DEFAULT, HOT, NO_LISTS, ROW, RowBatch, RowResults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from samplerd_server.core.entity import Buffer
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.result import Timing
    from samplerd_server.core.rows import StoredRows

__all__ = ["pack", "unpack"]

_T = TypeVar("_T", bound=np.generic)
_MASKS = [at for at, own in enumerate(LISTS) if own.is_mask]


class _Guide(NamedTuple):
    """The guidance row of a row."""

    address: int
    dtype: int


_NO_GUIDE = _Guide(0, 0)
"""Of a row that is not guided."""


def pack(requests: Sequence[SampleRequest]) -> RowBatch:
    """Lay the rows of `requests` side by side, in order.

    Args:
        requests: checked requests of any mix of vocabulary sizes, dtypes and parameters.

    Returns:
        Their rows as one batch; row r of request i stands after all rows of the requests before it.

    """
    packer = _Packer()
    for request in requests:
        packer.add(request)
    return packer.finish()


def _guide(rows: DenseRows, begin: int, row: int) -> _Guide:
    """Find the guidance row of one row; they begin at an address."""
    return _Guide(begin + row * rows.vocab_size * rows.dtype.itemsize, rows.dtype)


class _Packer:
    """The records so far, and the lengths of the flat outputs."""

    __slots__ = ("_base", "_keepalive", "_named", "_output_flags", "_records", "_samples", "_top", "_work")

    def __init__(self) -> None:
        self._records: list[bytes] = []
        self._keepalive: list[object] = []
        self._base = 0  # address of the present request's first row
        self._work = 0
        self._samples = 0
        self._top = 0
        self._named = 0
        self._output_flags = NOTHING

    def add(self, request: SampleRequest) -> None:
        params, outputs, source = request.params, request.outputs, request.source
        self._work += request.work
        if (
            len(params) == 1
            and params[0].is_plain
            and isinstance(source, DenseRows)
            and outputs.top_n == 0
            and outputs.logprob_ids is None
        ):
            self._add_plain(request, params[0].temperature, source)
        else:
            self._add_any(request)

    def _add_plain(self, request: SampleRequest, temperature: float, source: DenseRows) -> None:
        """Add rows that share everything but where their numbers lie and their seeds: one record, repeated."""
        rows, num_samples, width = source.rows, request.num_samples, source.vocab_size
        self._keepalive.append(source.data)
        record = (
            HOT.pack(
                source.address or address_of(source.data),
                request.seed,
                request.draw_offset,
                self._samples,
                temperature,
                width,
                width,
                request.first_row if request.row_seeds is None else 0,
                num_samples,
                request.outputs.output_flags,
                source.dtype,
                request.kind,
                not request.with_replacement,
                True,  # noqa: FBT003  # struct has no names
            )
            + COLD_DEFAULT
        )
        if rows > 1 or request.row_seeds is not None:
            stride = width * source.dtype.itemsize
            record = repeat(record, rows, stride, num_samples, request.row_seeds)
        self._records.append(record)
        self._samples += rows * num_samples
        if request.outputs is not NO_OUTPUTS:  # an IntFlag's | takes longer than the rest of this
            self._output_flags |= request.outputs.output_flags

    def _add_any(self, request: SampleRequest) -> None:
        params, outputs = request.params, request.outputs
        has_cold_outputs = outputs.top_n or outputs.logprob_ids is not None
        sparse = isinstance(request.source, CandidateRows)
        flags = outputs.output_flags
        guidance = 0 if request.guidance is None else self._begin_of(request.guidance)
        for row in range(request.rows):
            own = params[row] if len(params) > 1 else params[0]
            data, width, candidates, rest = self._locate(request.source, row)
            is_plain = own.is_plain and not has_cold_outputs and not sparse
            seeded_alone = request.row_seeds is not None
            hot = HOT.pack(
                data,
                int(request.row_seeds[row]) if request.row_seeds is not None else request.seed,
                request.draw_offset,
                self._samples,
                own.temperature,
                width,
                request.source.vocab_size,
                0 if seeded_alone else request.first_row + row,
                request.num_samples,
                flags,
                1 if sparse else request.source.dtype,  # type: ignore[union-attr]  # only dense rows have a dtype
                request.kind,
                not request.with_replacement,
                is_plain,
            )
            cold = COLD_DEFAULT
            if not is_plain:
                guide = _NO_GUIDE
                if request.guidance is not None and own.guidance_scale != 1.0:
                    guide = _guide(request.guidance, guidance, row)
                cold = self._cold(own, request, (candidates, rest), guide)
            self._records.append(hot + cold)
            self._samples += request.num_samples
            self._top += outputs.top_n
            self._named += 0 if outputs.logprob_ids is None else len(outputs.logprob_ids)
        self._output_flags |= flags

    def _locate(self, source: DenseRows | CandidateRows | StoredRows, row: int) -> tuple[int, int, int, float]:
        """Address and length of the row's numbers; with candidates, also the address of their ids and the rest."""
        if isinstance(source, CandidateRows):
            own = source.candidates[row]
            return self._address(own.logits), len(own.ids), self._address(own.ids), own.rest_logsumexp
        if row == 0:
            self._base = self._begin_of(source)
        return self._base + row * source.vocab_size * source.dtype.itemsize, source.vocab_size, 0, 0.0

    def _begin_of(self, rows: DenseRows | StoredRows) -> int:
        """Where the first of these rows begins; the batch will keep them alive."""
        self._keepalive.append(rows.data)
        return rows.address or address_of(rows.data)

    def _address(self, buffer: Buffer | NDArray[np.generic]) -> int:
        """Where the bytes of a buffer begin; the batch will keep it alive."""
        self._keepalive.append(buffer)
        return address_of(buffer)

    def _cold(self, params: SamplingParams, request: SampleRequest, sparse: tuple[int, float], guide: _Guide) -> bytes:
        """Pack the cold part of a row that has its own; `sparse`: where the ids of its candidates are, and the rest."""
        outputs, named = request.outputs, request.outputs.logprob_ids
        candidates, rest = sparse
        return COLD.pack(
            candidates,
            guide.address,
            0 if named is None else self._address(named),
            request.drawn,
            self._top,
            self._named,
            rest if candidates else float("-inf"),
            0 if named is None else len(named),
            outputs.top_n,
            guide.dtype,
            *numbers_of(params),
            *self._point_to(lists_of(params)),
        )

    def _point_to(self, lists: Sequence[Any]) -> Sequence[int]:
        """Give the values of `LIST_FIELDS`, and keep the lists alive. None = not given."""
        for values in lists:
            if values is not None:
                break
        else:
            return NO_LISTS
        fields = list(NO_LISTS)
        for at, values in enumerate(lists):
            if values is not None and len(values):
                fields[at] = self._address(values)
                fields[at + len(LISTS)] = len(values) // LISTS[at].unit
        for at, mask in enumerate(_MASKS, 2 * len(LISTS)):
            fields[at] = lists[mask] is not None
        return fields

    def finish(self) -> RowBatch:
        # A bytearray, so that the records are writable, as numba's type for them says.
        rows = np.frombuffer(bytearray(b"".join(self._records)), ROW)
        return RowBatch(
            rows=rows,
            samples=self._samples,
            work=self._work,
            top=self._top,
            named=self._named,
            output_flags=self._output_flags,
            keepalive=self._keepalive,
        )


def unpack(requests: Sequence[SampleRequest], results: RowResults, timings: Sequence[Timing]) -> list[SampleResult]:
    """Divide the results of a batch among its requests; the inverse of `pack`.

    Args:
        requests: the very requests that were packed, in the same order.
        results: what the sampler returned.
        timings: one per request.

    Returns:
        One result per request; arrays are views of the batch's.

    """
    answers: list[SampleResult] = []
    row = sample = top = named = 0
    any_failed = np.count_nonzero(results.status) > 0
    for request, timing in zip(requests, timings, strict=True):
        rows, outputs = request.source.rows, request.outputs
        end = sample + rows * request.num_samples
        errors = row_errors(request, results, row) if any_failed else ()
        top_end, named_end = top, named
        if outputs.output_flags == NOTHING:
            answers.append(SampleResult(samples=results.samples[sample:end], row_errors=errors, timing=timing))
        else:
            sums = weights = None
            if outputs.adaptive_state:
                failed = results.status[row : row + rows] != 0
                sums, weights = next_states(request.params, _slice(results.unshaped, sample, end), failed)
            top_end += rows * outputs.top_n
            named_end += 0 if outputs.logprob_ids is None else rows * len(outputs.logprob_ids)
            answers.append(
                SampleResult(
                    samples=results.samples[sample:end],
                    row_errors=errors,
                    timing=timing,
                    logprobs=tuple(
                        LogprobValues(
                            kind=kind,
                            samples=results.logprobs[kind][sample:end],
                            top_ids=results.top_ids[kind][top:top_end] if outputs.top_n else None,
                            top=results.top_logprobs[kind][top:top_end] if outputs.top_n else None,
                            named=results.named[kind][named:named_end] if outputs.logprob_ids is not None else None,
                        )
                        for kind in outputs.logprobs
                    ),
                    ranks=_slice(results.ranks, sample, end) if outputs.output_flags & OutputFlags.RANK else None,
                    entropies=tuple((kind, results.entropy[kind][row : row + rows]) for kind in outputs.entropy),
                    kept_count=_slice(results.kept_count, row, row + rows) if outputs.kept else None,
                    kept_mass=_slice(results.kept_mass, row, row + rows) if outputs.kept else None,
                    adaptive_weighted_sum=sums,
                    adaptive_total_weight=weights,
                ),
            )
        row, sample, top, named = row + rows, end, top_end, named_end
    return answers


def _slice(values: NDArray[_T] | None, begin: int, end: int) -> NDArray[_T]:
    assert values is not None, "an output that a request wants was not allocated. This is a bug."
    return values[begin:end]
