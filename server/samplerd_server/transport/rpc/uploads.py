"""Uploads: rows of a client become a distribution in the store.

Uploaded rows go through the queue like a request for one sample of each row: that bounds how many may wait, keeps
deadlines, and finds every row that cannot be drawn from. Then one thread copies them into the store and builds their
CDF index, while the event loop and the device go on. A distribution can be found by its name only when all of it is
in the store.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.pack import pack
from samplerd_server.core.errors import InvalidRequestError, SamplerdError
from samplerd_server.core.named_thread import named_pool
from samplerd_server.core.rows import DenseRows
from samplerd_server.distributions.segment import size_of, write_segment
from samplerd_server.transport.codec.decode_distribution import decode_new, encode_distribution

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from samplerd_server.config import DistributionsConfig
    from samplerd_server.core.enums import InputKind
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.distributions.segment import CdfIndexPlan
    from samplerd_server.distributions.store import Store
    from samplerd_server.sampling.rows import RowBatch
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.codec.decode_distribution import NewDistribution
    from samplerd_server.transport.rpc.submitter import Submitter

__all__ = ["PlansCdfIndexes", "Uploads"]


class PlansCdfIndexes(Protocol):
    """The part of the engine that builds CDF indexes: sampling.cdf_index.builder.CdfIndexBuilder."""

    def plan(self, batch: RowBatch, kind: InputKind, params: SamplingParams) -> CdfIndexPlan | None:
        """Work out the size of the CDF index of rows; None for rows that cannot have one."""
        ...


class Uploads:
    """Checks uploads and keeps them in the store."""

    def __init__(
        self,
        config: DistributionsConfig,
        *,
        store: Store,
        cdf_index_builder: PlansCdfIndexes | None,
        decoder: Decoder,
        submitter: Submitter,
        loop: AbstractEventLoop,
    ) -> None:
        self._default_ttl_s = config.ttl_s or math.inf
        self._store = store
        self._cdf_index_builder = cdf_index_builder
        self._decoder = decoder
        self._submitter = submitter
        self._loop = loop
        self._arriving_bytes = 0
        """Bytes of rows that are being uploaded: their messages are in memory beside the copies."""
        self._thread = named_pool("samplerd-cdf-index", 1)

    def close(self) -> None:
        """Start no further upload, and do not wait for those that are running."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def create(self, data: bytes, arrival: float, deadline: float, connection: str) -> bytes:
        """Check uploaded rows and keep them in the store.

        Args:
            data: the bytes of a CreateDistributionRequest.
            arrival: when it came, in seconds on the monotonic clock.
            deadline: when its caller stops waiting.
            connection: whose fair share of the queue it counts against.

        Returns:
            The bytes of the CreateDistributionResponse.

        Raises:
            SamplerdError: the upload is refused.

        """
        new = decode_new(data, self._decoder, now=time.time(), default_ttl_s=self._default_ttl_s)
        size = new.request.size_bytes
        self._store.check(new.description.name, size_of(new.description, None) + self._arriving_bytes)
        self._arriving_bytes += size
        try:
            result = await self._submitter.submit(new.request, arrival, deadline, connection)
            if result.row_errors:
                first = result.row_errors[0]
                raise InvalidRequestError(new.field, f"row {first.row}: {first.message}")
            return await self._make(new)
        finally:
            self._arriving_bytes -= size

    async def _make(self, new: NewDistribution) -> bytes:
        """Copy checked rows into the store; if the caller has gone, their memory is freed."""
        rows = new.request.source
        assert isinstance(rows, DenseRows), "an upload of candidates. This is a bug."
        plan = await self._loop.run_in_executor(self._thread, self._plan, new)
        memory = self._store.allocate(size_of(new.description, plan))
        await self._loop.run_in_executor(self._thread, write_segment, memory, new.description, rows, plan)
        try:
            message = encode_distribution(*self._store.publish(memory))
        except SamplerdError as error:
            # The frames of its traceback would keep the memory.
            error.__traceback__ = None
            del memory
            raise
        return pb.CreateDistributionResponse(distribution=message).SerializeToString()

    def _plan(self, new: NewDistribution) -> CdfIndexPlan | None:
        if self._cdf_index_builder is None:
            return None
        return self._cdf_index_builder.plan(pack([new.request]), new.request.kind, new.request.params[0])
