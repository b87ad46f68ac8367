"""The arrow ``bytes -> SampleRequest``: parses, checks every field against contract and limits, fills defaults.

Whatever passes here is well-formed: nobody downstream asks again. Whatever does not raises an error that names the
field as the proto does. Event loop; pure but for the random seed of a request that brings none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.buffers import address_of
from samplerd_server.core.errors import NotImplementedFieldError
from samplerd_server.core.outputs import NO_OUTPUTS, Outputs
from samplerd_server.core.rows import DenseRows
from samplerd_server.transport.codec.check_request import (
    DEFAULT,
    check_request,
    decode_row_params,
    decode_row_seeds,
    decode_seed,
)
from samplerd_server.transport.codec.decode_guidance import (
    check_guidance,
    decode_guidance,
    decode_guidance_bytes,
    load_both,
)
from samplerd_server.transport.codec.decode_ids import ParamsContext
from samplerd_server.transport.codec.decode_outputs import decode_outputs
from samplerd_server.transport.codec.decode_params import decode_params
from samplerd_server.transport.codec.decode_rows import check_tensor, decode_rows
from samplerd_server.transport.codec.decode_shared_memory import decode_cuda_memory, decode_shared_memory
from samplerd_server.transport.codec.fresh_seed import fresh_seed
from samplerd_server.transport.codec.known_requests import KnownRequests
from samplerd_server.transport.codec.parse import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from samplerd_server.config import LimitsConfig
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import CandidateRows, StoredRows
    from samplerd_server.transport.codec.decode_guidance import GuidanceRows
    from samplerd_server.transport.codec.scanned import Scanned
    from samplerd_server.transport.shared_memory.cuda_regions import CudaRegions
    from samplerd_server.transport.shared_memory.reader import SharedMemoryReader

__all__ = ["Decoder"]

_T = TypeVar("_T")

_MAX_CACHED_BYTES = 128
"""The most bytes of parameters or outputs that are remembered: scalars, not lists of ids."""
_MAX_CACHED = 1024
"""The most entries that each cache holds: clients choose them, so they must be bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Decodes requests within the limits and capabilities of this server."""

    limits: LimitsConfig
    capabilities: frozenset[str]
    """Names of the optional fields that work."""
    scan: Callable[[bytes], Scanned] | None = None
    """The compiled scan (`codec.scan`), or None where numba is not installed."""
    regions: SharedMemoryReader | None = None
    """Reads rows from shared memory; None = it is turned off."""
    cuda_regions: CudaRegions | None = None
    """The registered memory of CUDA devices; None = as where it is turned off."""
    by_distribution: Callable[[pb.SampleRequest], SampleRequest] | None = None
    """Decodes requests that name a distribution; None = no distributions are served."""
    known: KnownRequests = field(default_factory=KnownRequests)
    """The kinds of messages that were checked."""
    _params_cache: dict[tuple[bytes, int], tuple[SamplingParams, ...]] = field(default_factory=dict)
    _outputs_cache: dict[tuple[bytes, int], Outputs] = field(default_factory=dict)

    def parse(self, data: bytes) -> pb.SampleRequest:
        """Parse the bytes of one request.

        Raises:
            InvalidRequestError: they are not a SampleRequest.

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
        kind = self.known.kind_of(data, found)
        request = None if kind is None else self.known.find(data, found, kind)
        if request is not None:
            return request
        source, load = self._find_rows(data, found)
        if found.is_simple:
            request = self._decode_scanned(data, found, source, load)
            self.known.remember(kind, request)
            return request
        guidance = None
        if found.guidance_at:
            guidance = decode_guidance_bytes(
                data, found.guidance_at, found.guidance_end, self.limits, self._decode_shared
            )
        return self.decode_with(self.parse(_without_rows(data, found)), source, load, guidance)

    def _find_rows(self, data: bytes, found: Scanned) -> tuple[DenseRows, Callable[[], None] | None]:
        """Find the rows, and the function that first copies their numbers out of shared memory, if they are there."""
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

    def _decode_shared(
        self, memory: pb.SharedMemory | pb.CudaSharedMemory, path: str = "shared_memory"
    ) -> tuple[DenseRows, Callable[[], None]]:
        if isinstance(memory, pb.CudaSharedMemory):
            return self._decode_cuda(memory, path)
        if self.regions is None:
            raise NotImplementedFieldError(path, "is off on this server; --shared-memory-prefix turns it on")
        return decode_shared_memory(memory, self.limits, self.regions, path)

    def _decode_cuda(
        self, memory: pb.CudaSharedMemory, path: str, *, is_device: bool = True
    ) -> tuple[DenseRows, Callable[[], None]]:
        if self.cuda_regions is None:
            raise NotImplementedFieldError(path, "is off on this server; --cuda-shared-memory turns it on")
        return decode_cuda_memory(memory, self.limits, self.cuda_regions, path, is_device=is_device)

    def _decode_scanned(
        self, data: bytes, found: Scanned, source: DenseRows, load: Callable[[], None] | None
    ) -> SampleRequest:
        """Check the fields that the scan has found: `decode_with` without a message."""
        params, outputs = DEFAULT, NO_OUTPUTS
        if found.params_at:
            params = self._cached_params(data[found.params_at : found.params_end], source.vocab_size)
        if found.outputs_at:
            outputs = self._cached_outputs(data[found.outputs_at : found.outputs_end], source.vocab_size)
        return check_request(
            found,
            source,
            self.limits,
            params=params,
            outputs=outputs,
            seed=found.seed if found.has_seed else fresh_seed(),
            load=load,
        )

    def _cached_params(self, data: bytes, vocab_size: int) -> tuple[SamplingParams, ...]:
        """Decode the parameters of all rows; small ones are cached by their bytes."""
        known = self._params_cache.get((data, vocab_size))
        if known is not None:
            return known
        message = parse(pb.SamplingParams, data, part_of=pb.SampleRequest)
        params = (decode_params(message, "params", self.context(vocab_size)),)
        _remember(self._params_cache, data, vocab_size, params)
        return params

    def _cached_outputs(self, data: bytes, vocab_size: int) -> Outputs:
        """Decode outputs; small ones are cached by their bytes."""
        known = self._outputs_cache.get((data, vocab_size))
        if known is not None:
            return known
        outputs = decode_outputs(
            parse(pb.Outputs, data, part_of=pb.SampleRequest), self.context(vocab_size), self.limits.max_top_n
        )
        _remember(self._outputs_cache, data, vocab_size, outputs)
        return outputs

    def context(self, vocab_size: int, *, has_guidance: bool = False, takes_guidance: bool = True) -> ParamsContext:
        """Give what the checks of parameters depend on beside the parameters."""
        return ParamsContext(
            vocab_size=vocab_size,
            max_tokens=self.limits.max_ids_per_list,
            capabilities=self.capabilities,
            has_guidance=has_guidance,
            takes_guidance=takes_guidance,
        )

    def decode(self, message: pb.SampleRequest) -> SampleRequest:
        """Check one request.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        if self.by_distribution is not None and message.HasField("distribution"):
            return self.by_distribution(message)
        return self.decode_with(message, *self.decode_source(message))

    def decode_source(
        self, message: pb.SampleRequest | pb.CreateDistributionRequest
    ) -> tuple[DenseRows | CandidateRows, Callable[[], None] | None]:
        """Find the rows of a message that names no distribution.

        Rows in shared memory come with the function that copies their numbers, to be called once they are admitted.

        Raises:
            InvalidRequestError: no source, or a malformed one.
            NotImplementedFieldError: a source that does not work here.
            PermissionDeniedError: shared memory that requests may not name.

        """
        if message.HasField("shared_memory"):
            return self._decode_shared(message.shared_memory)
        if message.HasField("cuda_shared_memory"):
            # An upload is kept on the host.
            is_device = isinstance(message, pb.SampleRequest)
            return self._decode_cuda(message.cuda_shared_memory, "cuda_shared_memory", is_device=is_device)
        return decode_rows(message, self.limits, self.capabilities), None

    def decode_with(
        self,
        message: pb.SampleRequest,
        source: DenseRows | CandidateRows | StoredRows,
        load: Callable[[], None] | None = None,
        guidance: GuidanceRows | None = None,
    ) -> SampleRequest:
        """Check everything of one request but its rows, which the caller has found, and perhaps its guidance rows.

        Raises:
            InvalidRequestError: a field is malformed, contradictory or out of range.
            NotImplementedFieldError: a field is used that does not work here.

        """
        if guidance is None and message.HasField("guidance"):
            guidance = decode_guidance(message.guidance, self.limits, self._decode_shared)
        if guidance is not None and "SampleRequest.guidance" not in self.capabilities:
            raise NotImplementedFieldError("guidance")
        row_seeds = decode_row_seeds(message, source.rows)
        takes_guidance = isinstance(source, DenseRows)
        context = self.context(source.vocab_size, has_guidance=guidance is not None, takes_guidance=takes_guidance)
        params = decode_row_params(message, source.rows, context)
        if guidance is not None:
            check_guidance(guidance.rows, source, params)
            regions = self.regions or self.cuda_regions
            load = load_both(source.size_bytes, load, guidance, 0 if regions is None else regions.max_bytes)
        outputs = NO_OUTPUTS
        if message.HasField("outputs"):
            outputs = self._cached_outputs(message.outputs.SerializeToString(), source.vocab_size)
        return check_request(
            message,
            source,
            self.limits,
            params=params,
            outputs=outputs,
            seed=decode_seed(message) if row_seeds is None else 0,
            row_seeds=row_seeds,
            load=load,
            guidance=None if guidance is None else guidance.rows,
        )


def _without_rows(data: bytes, found: Scanned) -> bytes:
    """Cut the rows and the guidance rows out of a message."""
    (first, first_end), (last, last_end) = sorted(
        ((found.guidance_tag, found.guidance_end), (found.source_tag, found.source_end))
    )
    return data[:first] + data[first_end:last] + data[last_end:]


def _remember(cache: dict[tuple[bytes, int], _T], data: bytes, vocab_size: int, meaning: _T) -> None:
    if len(data) > _MAX_CACHED_BYTES:
        return
    if len(cache) >= _MAX_CACHED:
        cache.clear()
    cache[data, vocab_size] = meaning
