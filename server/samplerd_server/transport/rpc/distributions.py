"""The RPCs about distributions: uploading rows, describing, listing and deleting them.

Uploaded rows go through the queue like a request for one sample each: that bounds what may wait, holds deadlines, and
finds every row that cannot be drawn from. Then one thread copies them to where they stay and prepares their tables,
while the event loop and the device go on. Nothing is known by its name before all of it is there.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.pack import pack
from samplerd_server.batching.ticket import NO_DEADLINE
from samplerd_server.core.errors import InvalidRequestError, SamplerdError
from samplerd_server.core.rows import DenseRows
from samplerd_server.distributions.segment import size_of, write_segment
from samplerd_server.transport.codec.by_distribution import DistributionDecoder, check_name
from samplerd_server.transport.codec.decode_distribution import (
    decode_new,
    decode_page,
    encode_distribution,
    encode_page_token,
)

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message
    from grpc.aio import ServicerContext

    from samplerd_server.config import DistributionsConfig
    from samplerd_server.core.enums import InputKind
    from samplerd_server.core.params import SamplingParams
    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.result import SampleResult
    from samplerd_server.distributions.segment import Plan
    from samplerd_server.distributions.store import Store
    from samplerd_server.sampling.rows import RowBatch
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.codec.decode_distribution import NewDistribution
    from samplerd_server.transport.rpc.observer import RpcObserver

__all__ = ["DistributionService", "PlansCdfIndexes"]

_Message = TypeVar("_Message", bound="Message")


class PlansCdfIndexes(Protocol):
    """The part of the engine that prepares tables: sampling.tables.maker.TableMaker."""

    def plan(self, batch: RowBatch, kind: InputKind, params: SamplingParams) -> Plan | None:
        """Find out what the tables of rows take; None for rows that no table can stand for."""
        ...


class DistributionService:
    """Answers the RPCs about distributions."""

    def __init__(
        self,
        config: DistributionsConfig,
        *,
        store: Store,
        cdf_index_builder: PlansCdfIndexes | None,
        decoder: Decoder,
        calls: RpcObserver,
        loop: AbstractEventLoop,
    ) -> None:
        self._default_ttl_s = config.ttl_s or math.inf
        self._store = store
        self._cdf_index_builder = cdf_index_builder
        self._decoder = decoder
        self._calls = calls
        self._loop = loop
        self._arriving_bytes = 0
        """Rows whose distribution is being made: their messages are in memory too."""
        self._thread = ThreadPoolExecutor(1, "samplerd-tables")

    def named(self, decoder: Decoder, max_samples: int) -> Callable[[pb.SampleRequest], SampleRequest]:
        """Give what decodes requests that name a distribution, for so many samples at most."""
        whole = replace(decoder, limits=replace(decoder.limits, max_samples=max_samples))
        return DistributionDecoder(
            decoder=whole, find=self._store.find, max_undivided=decoder.limits.max_samples
        ).decode

    def handlers(
        self, submit: Callable[[SampleRequest, float, float, str], Future[SampleResult]]
    ) -> Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Give the handlers by RPC; `submit` queues a request."""

        async def create(data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
            return await self._create(data, context, submit)

        handlers = {
            "CreateDistribution": create,
            "GetDistribution": self._get,
            "DeleteDistribution": self._delete,
            "ListDistributions": self._list,
        }
        return {rpc: grpc.unary_unary_rpc_method_handler(handler) for rpc, handler in handlers.items()}

    def close(self) -> None:
        """Begin nothing more; what is being made is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _create(
        self,
        data: bytes,
        context: ServicerContext[bytes, bytes],
        submit: Callable[[SampleRequest, float, float, str], Future[SampleResult]],
    ) -> bytes:
        began = time.monotonic()
        reply = b""
        async with self._calls.handle("CreateDistribution", context, began):
            new = decode_new(data, self._decoder, now=time.time(), default_ttl_s=self._default_ttl_s)
            remaining = context.time_remaining()
            deadline = NO_DEADLINE if remaining is None else began + remaining
            size = new.request.size_bytes
            self._store.check(new.description.name, size_of(new.description, None) + self._arriving_bytes)
            self._arriving_bytes += size
            try:
                result = await submit(new.request, began, deadline, context.peer())
                if result.row_errors:
                    first = result.row_errors[0]
                    raise InvalidRequestError(new.field, f"row {first.row}: {first.message}")
                reply = await self._make(new)
            finally:
                self._arriving_bytes -= size
        return reply

    async def _make(self, new: NewDistribution) -> bytes:
        """Put checked rows where they stay; if nobody waits any more, whatever was taken is given back."""
        rows = new.request.source
        assert isinstance(rows, DenseRows), "sparse rows are uploaded. This is a bug."
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

    def _plan(self, new: NewDistribution) -> Plan | None:
        if self._cdf_index_builder is None:
            return None
        return self._cdf_index_builder.plan(pack([new.request]), new.request.kind, new.request.params[0])

    async def _get(self, data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
        reply = b""
        async with self._calls.handle("GetDistribution", context, time.monotonic()):
            request = _parse(pb.GetDistributionRequest, data)
            segment, expires = self._store.describe(check_name(request.name, "name"))
            message = encode_distribution(segment, expires)
            reply = pb.GetDistributionResponse(distribution=message).SerializeToString()
        return reply  # noqa: RET504  # as above

    async def _delete(self, data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
        async with self._calls.handle("DeleteDistribution", context, time.monotonic()):
            request = _parse(pb.DeleteDistributionRequest, data)
            self._store.delete(check_name(request.name, "name"))
        return b""

    async def _list(self, data: bytes, context: ServicerContext[bytes, bytes]) -> bytes:
        reply = b""
        async with self._calls.handle("ListDistributions", context, time.monotonic()):
            size, after = decode_page(_parse(pb.ListDistributionsRequest, data))
            names = [name for name in self._store.names() if name > after]
            response = pb.ListDistributionsResponse(
                distributions=[encode_distribution(*self._store.describe(name)) for name in names[:size]],
                next_page_token=encode_page_token(names[size - 1]) if len(names) > size else "",
            )
            reply = response.SerializeToString()
        return reply  # noqa: RET504  # as above


def _parse(kind: type[_Message], data: bytes) -> _Message:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError("request", f"not a {kind.__name__}") from error
