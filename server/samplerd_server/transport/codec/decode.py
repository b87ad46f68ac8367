"""The arrow ``bytes -> SampleRequest``: parses, checks every field against contract and limits, fills defaults.

Whatever passes here is well-formed: nobody downstream asks again. Whatever does not raises an error that names the
field as the proto does. Event loop; pure but for the random seed of a request that brings none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.buffers import address_of
from samplerd_server.core.enums import InputKind
from samplerd_server.core.errors import InvalidRequestError, NotImplementedFieldError
from samplerd_server.core.outputs import NO_OUTPUTS, Outputs
from samplerd_server.core.request import SampleRequest
from samplerd_server.transport.codec.decode_outputs import decode_outputs
from samplerd_server.transport.codec.decode_params import DEFAULT_PARAMS, ParamsContext, decode_params
from samplerd_server.transport.codec.decode_rows import check_tensor, decode_rows
from samplerd_server.transport.codec.decode_shared_memory import decode_shared_memory
from samplerd_server.transport.codec.parse import parse
from samplerd_server.transport.codec.seeds import fresh_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from samplerd_server.config import LimitsConfig
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.rows import CandidateRows, DenseRows, StoredRows
    from samplerd_server.transport.codec.scan import Scanned
    from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

__all__ = ["Decoder"]

_T = TypeVar("_T")

_DEFAULT: tuple[SamplingParams, ...] = (DEFAULT_PARAMS,)
_KINDS = {0: InputKind.LOGITS, 1: InputKind.LOGITS, 2: InputKind.PROBABILITIES}
_WITH_REPLACEMENT = {0: True, 1: True, 2: False}
_PRIORITIES = range(-100, 101)
_WORTH_KNOWING = 128
"""Bytes of parameters or outputs that are remembered: scalars, not histories."""
_MAX_KNOWN = 1024
"""How many of each are remembered: bounded, since clients choose them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Decodes requests within the limits and capabilities of this server."""

    limits: LimitsConfig
    capabilities: frozenset[str]
    """Names of optional fields that work."""
    scan: Callable[[bytes], Scanned] | None = None
    """The compiled scan (`transport.scan`), or None where nothing can be compiled."""
    regions: SharedMemoryReader | None = None
    """Where shared memory is read from; None = it is off."""
    by_distribution: Callable[[pb.SampleRequest], SampleRequest] | None = None
    """Decodes requests that name a distribution; None = it does not work here."""
    _known_params: dict[tuple[bytes, int], tuple[SamplingParams, ...]] = field(default_factory=dict)
    _known_outputs: dict[tuple[bytes, int], Outputs] = field(default_factory=dict)

    def parse(self, data: bytes) -> pb.SampleRequest:
        """Parse the bytes of one message.

        Raises:
            InvalidRequestError: they are not one.

        """
        return parse(pb.SampleRequest, data)

    def decode_bytes(self, data: bytes) -> SampleRequest:
        """Parse and check one request; the rows of a large one stay where they are in `data`.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        if self.scan is None:
            return self.decode(self.parse(data))
        found = self.scan(data)
        if not found.is_done:
            return self.decode(self.parse(data))
        source, load = self._locate_rows(data, found)
        if found.is_simple:
            return self._decode_scanned(data, found, source, load)
        return self.decode_with(self.parse(data[: found.source_tag] + data[found.source_end :]), source, load)

    def _locate_rows(self, data: bytes, found: Scanned) -> tuple[DenseRows, Callable[[], None] | None]:
        """Give the rows, and what has to bring them in first, as `decode_with` takes them."""
        begin, end = found.data_at, found.data_end
        if found.is_shared:
            return self._decode_shared(parse(pb.SharedMemory, data[begin:end], part_of=pb.SampleRequest))
        rows = check_tensor(
            found.dtype,
            found.rows or 1,
            found.vocab_size,
            memoryview(data)[begin:end],
            self.limits,
            address=address_of(data) + begin,
        )
        return rows, None

    def _decode_shared(self, memory: pb.SharedMemory) -> tuple[DenseRows, Callable[[], None]]:
        if self.regions is None:
            raise NotImplementedFieldError("shared_memory", "is off on this server; --shared-memory-prefix turns it on")
        return decode_shared_memory(memory, self.limits, self.regions)

    def _decode_scanned(
        self, data: bytes, found: Scanned, source: DenseRows, load: Callable[[], None] | None
    ) -> SampleRequest:
        """Check what was scanned, as `decode_with` does with a message."""
        params, outputs = _DEFAULT, NO_OUTPUTS
        if found.params_at:
            params = self._recall_params(data[found.params_at : found.params_end], source.vocab_size)
        if found.outputs_at:
            outputs = self._recall_outputs(data[found.outputs_at : found.outputs_end], source.vocab_size)
        return self._check(
            found,
            source,
            params=params,
            outputs=outputs,
            seed=found.seed if found.has_seed else fresh_seed(),
            load=load,
        )

    def _recall_params(self, data: bytes, vocab_size: int) -> tuple[SamplingParams, ...]:
        """Decode parameters that stand alone; the same bytes mean the same, so they are remembered while small."""
        known = self._known_params.get((data, vocab_size))
        if known is not None:
            return known
        message = parse(pb.SamplingParams, data, part_of=pb.SampleRequest)
        params = (decode_params(message, "params", self._context(vocab_size)),)
        _remember(self._known_params, data, vocab_size, params)
        return params

    def _recall_outputs(self, data: bytes, vocab_size: int) -> Outputs:
        """Decode outputs that stand alone, and remember them as parameters are."""
        known = self._known_outputs.get((data, vocab_size))
        if known is not None:
            return known
        outputs = decode_outputs(
            parse(pb.Outputs, data, part_of=pb.SampleRequest), self._context(vocab_size), self.limits.max_top_n
        )
        _remember(self._known_outputs, data, vocab_size, outputs)
        return outputs

    def _context(self, vocab_size: int) -> ParamsContext:
        return ParamsContext(
            vocab_size=vocab_size, max_tokens=self.limits.max_ids_per_list, capabilities=self.capabilities
        )

    def decode(self, message: pb.SampleRequest) -> SampleRequest:
        """Check one request.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        if self.by_distribution is not None and message.HasField("distribution"):
            return self.by_distribution(message)
        if not message.HasField("shared_memory"):
            return self.decode_with(message, decode_rows(message, self.limits, self.capabilities))
        return self.decode_with(message, *self._decode_shared(message.shared_memory))

    def decode_with(
        self,
        message: pb.SampleRequest,
        source: DenseRows | CandidateRows | StoredRows,
        load: Callable[[], None] | None = None,
    ) -> SampleRequest:
        """Check all of one request but its rows, which the caller has found.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        context, outputs = self._context(source.vocab_size), NO_OUTPUTS
        seed, row_seeds = _decode_seeds(message, source.rows)
        params = _decode_all_params(message, source.rows, context)
        if message.HasField("outputs"):
            outputs = self._recall_outputs(message.outputs.SerializeToString(), source.vocab_size)
        return self._check(
            message,
            source,
            params=params,
            outputs=outputs,
            seed=seed,
            row_seeds=row_seeds,
            load=load,
        )

    def _check(
        self,
        message: pb.SampleRequest | Scanned,
        source: DenseRows | CandidateRows | StoredRows,
        *,
        params: tuple[SamplingParams, ...],
        outputs: Outputs,
        seed: int,
        row_seeds: NDArray[np.uint64] | None = None,
        load: Callable[[], None] | None = None,
    ) -> SampleRequest:
        """Check the scalars of a message, and put the request together."""
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
        if rows * num_samples > self.limits.max_samples:
            raise InvalidRequestError(
                "num_samples",
                f"{rows} rows x {num_samples} samples are more than the limit of {self.limits.max_samples}",
            )
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
            work=_work_of(source.size_bytes, rows * num_samples, params),
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


def _remember(known: dict[tuple[bytes, int], _T], data: bytes, vocab_size: int, meaning: _T) -> None:
    if len(data) > _WORTH_KNOWING:
        return
    if len(known) >= _MAX_KNOWN:
        known.clear()
    known[data, vocab_size] = meaning


_WORK_OF_SAMPLE = 256
"""Searching one block for one sample takes about as long as reading so many bytes of a plain row."""
_WORK_OF_FILTERS = 3
"""A row with filters is read about so many times as often as a plain one."""


def _work_of(size_bytes: int, samples: int, params: tuple[SamplingParams, ...]) -> int:
    is_plain = params[0].is_plain if len(params) == 1 else all(own.is_plain for own in params)
    passes = 1 if is_plain else _WORK_OF_FILTERS
    return size_bytes * passes + samples * _WORK_OF_SAMPLE


def _decode_seeds(message: pb.SampleRequest, rows: int) -> tuple[int, NDArray[np.uint64] | None]:
    if message.row_seeds:
        if message.HasField("seed"):
            raise InvalidRequestError("row_seeds", "not together with seed")
        if len(message.row_seeds) != rows:
            raise InvalidRequestError("row_seeds", f"{len(message.row_seeds)} seeds for {rows} rows")
        return 0, np.array(message.row_seeds, np.uint64)
    return message.seed if message.HasField("seed") else fresh_seed(), None


def _decode_all_params(message: pb.SampleRequest, rows: int, context: ParamsContext) -> tuple[SamplingParams, ...]:
    if message.row_params:
        if message.HasField("params"):
            raise InvalidRequestError("row_params", "not together with params")
        if len(message.row_params) != rows:
            raise InvalidRequestError("row_params", f"{len(message.row_params)} parameters for {rows} rows")
        return tuple(
            decode_params(params, f"row_params[{row}]", context) for row, params in enumerate(message.row_params)
        )
    if not message.HasField("params"):
        return _DEFAULT
    return (decode_params(message.params, "params", context),)
