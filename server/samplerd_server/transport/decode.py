"""The arrow ``bytes -> SampleRequest``: parses, checks every field against contract and limits, fills defaults.

Whatever passes here is well-formed: nobody downstream asks again. Whatever does not raises an error that names the
field as the proto does. Event loop; pure but for the random seed of a request that brings none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.errors import InvalidRequestError, NotImplementedFieldError
from samplerd_server.request import InputKind, LogprobKind, Outputs, SampleRequest, Wanted
from samplerd_server.transport.decode_params import DEFAULT_PARAMS, ParamsContext, decode_ids, decode_params
from samplerd_server.transport.decode_rows import decode_rows, decode_tensor
from samplerd_server.transport.decode_shared_memory import decode_shared_memory
from samplerd_server.transport.scan import locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from samplerd_server.config import LimitsConfig
    from samplerd_server.request import CandidateRows, DenseRows, SamplingParams
    from samplerd_server.transport.regions import Regions

__all__ = ["Decoder"]

_NO_OUTPUTS = Outputs()
_KINDS = {0: InputKind.LOGITS, 1: InputKind.LOGITS, 2: InputKind.PROBABILITIES}
_WITH_REPLACEMENT = {0: True, 1: True, 2: False}
_PRIORITIES = range(-100, 101)
_WORTH_A_SCAN = 16 << 10
"""Bytes of a message from which on two copies of it cost more than a scan of its tags (about 5 us)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Decodes requests within the limits and capabilities of this server."""

    limits: LimitsConfig
    capabilities: frozenset[str]
    """Names of optional fields that work."""
    regions: Regions | None = None
    """Where shared memory is read from; None = it is off."""

    def parse(self, data: bytes) -> pb.SampleRequest:
        """Parse the bytes of one message.

        Raises:
            InvalidRequestError: they are not one.

        """
        try:
            return pb.SampleRequest.FromString(data)
        except DecodeError as error:
            raise InvalidRequestError("request", "not a SampleRequest") from error

    def decode_bytes(self, data: bytes) -> SampleRequest:
        """Parse and check one request; the rows of a large one stay where they are in `data`.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        located = locate(data) if len(data) >= _WORTH_A_SCAN else None
        if located is None:
            return self.decode(self.parse(data))
        try:
            shape = pb.Tensor.FromString(located.shape)
        except DecodeError as error:
            raise InvalidRequestError("request", "not a SampleRequest") from error
        message = self.parse(located.rest)
        return self.decode_with(message, decode_tensor(shape, self.limits, data=located.data))

    def decode(self, message: pb.SampleRequest) -> SampleRequest:
        """Check one request.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        if not message.HasField("shared_memory"):
            return self.decode_with(message, decode_rows(message, self.limits, self.capabilities))
        if self.regions is None:
            raise NotImplementedFieldError("shared_memory", "is off on this server; --shared-memory-prefix turns it on")
        rows, load = decode_shared_memory(message.shared_memory, self.limits, self.regions)
        return self.decode_with(message, rows, load)

    def decode_with(
        self, message: pb.SampleRequest, source: DenseRows | CandidateRows, load: Callable[[], None] | None = None
    ) -> SampleRequest:
        """Check all of one request but its rows, which the caller has found.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        kind = _KINDS.get(int(message.kind))
        if kind is None:
            raise InvalidRequestError("kind", f"{int(message.kind)} is not a known InputKind")
        with_replacement = _WITH_REPLACEMENT.get(int(message.replacement))
        if with_replacement is None:
            raise InvalidRequestError("replacement", f"{int(message.replacement)} is not a known Replacement")
        if message.priority not in _PRIORITIES:
            raise InvalidRequestError("priority", f"{message.priority} is not in [-100, 100]")
        rows, num_samples = source.rows, message.num_samples or 1
        if rows * num_samples > self.limits.max_samples:
            raise InvalidRequestError(
                "num_samples",
                f"{rows} rows x {num_samples} samples are more than the limit of {self.limits.max_samples}",
            )
        if message.draw_offset and not with_replacement:
            raise InvalidRequestError("draw_offset", "must be 0 without replacement")
        if message.draw_offset + num_samples > 1 << 64:
            raise InvalidRequestError("draw_offset", "the index of the last draw is beyond 2^64 - 1")
        context = ParamsContext(
            vocab_size=source.vocab_size, max_tokens=self.limits.max_tokens, capabilities=self.capabilities
        )
        seed, row_seeds = _decode_seeds(message, rows)
        params = _decode_all_params(message, rows, context)
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
            draw_offset=message.draw_offset,
            outputs=self._decode_outputs(message.outputs, context) if message.HasField("outputs") else _NO_OUTPUTS,
            priority=message.priority,
            load=load,
        )

    def _decode_outputs(self, outputs: pb.Outputs, context: ParamsContext) -> Outputs:
        logprobs = _decode_kinds(outputs.logprobs, "outputs.logprobs")
        entropy = _decode_kinds(outputs.entropy, "outputs.entropy")
        wants = {
            "Outputs.top_n": outputs.top_n,
            "Outputs.logprob_ids": outputs.logprob_ids,
            "Outputs.rank": outputs.rank,
            "Outputs.entropy": entropy,
            "Outputs.kept": outputs.kept,
            "Outputs.logprobs.processed": LogprobKind.PROCESSED in logprobs,
        }
        for name, is_wanted in wants.items():
            if is_wanted and name not in self.capabilities:
                raise NotImplementedFieldError("outputs." + name.partition(".")[2])
        if outputs.top_n > self.limits.max_top_n:
            raise InvalidRequestError(
                "outputs.top_n", f"{outputs.top_n} is more than the limit of {self.limits.max_top_n}"
            )
        if (outputs.top_n or outputs.logprob_ids) and not logprobs:
            name = "top_n" if outputs.top_n else "logprob_ids"
            raise InvalidRequestError(f"outputs.{name}", "needs outputs.logprobs to say which kinds")
        wanted = Wanted(0)
        for kind in logprobs:
            wanted |= Wanted(Wanted.RAW << (kind - 1))
        for kind in entropy:
            wanted |= Wanted(Wanted.ENTROPY_RAW << (kind - 1))
        wanted |= Wanted.RANK if outputs.rank else Wanted(0)
        wanted |= Wanted.KEPT if outputs.kept else Wanted(0)
        return Outputs(
            raw_samples=outputs.raw_samples,
            logprobs=logprobs,
            top_n=outputs.top_n,
            logprob_ids=decode_ids(outputs.logprob_ids, "outputs.logprob_ids", context),
            rank=outputs.rank,
            entropy=entropy,
            kept=outputs.kept,
            wanted=wanted,
        )


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
    return message.seed if message.HasField("seed") else _fresh_seed(), None


_SEEDS_AT_ONCE = 512
_fresh_seeds: list[int] = []


def _fresh_seed() -> int:
    """Draw a seed that nobody can predict; asking the system for many at once makes it cheap."""
    if not _fresh_seeds:
        _fresh_seeds.extend(np.frombuffer(os.urandom(8 * _SEEDS_AT_ONCE), np.uint64).tolist())
    return _fresh_seeds.pop()


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
        return (DEFAULT_PARAMS,)
    return (decode_params(message.params, "params", context),)


def _decode_kinds(values: Iterable[int], path: str) -> tuple[LogprobKind, ...]:
    kinds = set()
    for at, value in enumerate(values):
        if value not in {1, 2, 3}:
            raise InvalidRequestError(f"{path}[{at}]", f"{value} is not a known LogprobKind")
        kinds.add(LogprobKind(value))
    return tuple(sorted(kinds))
