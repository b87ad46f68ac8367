"""The RPCs about distributions: uploading rows, describing, listing and deleting them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import NotFoundError
from samplerd_server.transport.codec.by_distribution import DistributionDecoder, check_name
from samplerd_server.transport.codec.decode_distribution import decode_page, encode_distribution, encode_page_token
from samplerd_server.transport.rpc.contract import SAMPLER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from samplerd_server.core.request import SampleRequest
    from samplerd_server.distributions.store import Store
    from samplerd_server.transport.codec.decode import Decoder
    from samplerd_server.transport.rpc.call import Call

__all__ = ["CreatesDistributions", "DistributionService"]


class CreatesDistributions(Protocol):
    """What takes uploads: `rpc.uploads.Uploads`, or in a door the engine that does."""

    async def create(self, data: bytes, arrival: float, deadline: float, connection: str) -> bytes:
        """Check uploaded rows and keep them in the store; see `Uploads`."""
        ...


class DistributionService:
    """Answers the RPCs about distributions."""

    def __init__(self, store: Store, uploads: CreatesDistributions) -> None:
        self._store = store
        self._uploads = uploads

    def request_decoder(self, decoder: Decoder, max_samples: int) -> Callable[[pb.SampleRequest], SampleRequest]:
        """Give the function that decodes requests which name a distribution, for at most `max_samples` samples each."""
        whole = replace(decoder, limits=replace(decoder.limits, max_samples=max_samples))
        return DistributionDecoder(
            decoder=whole, find=self._store.find, max_undivided=decoder.limits.max_samples
        ).decode

    @SAMPLER.unary_bytes("CreateDistribution", pb.CreateDistributionRequest, pb.CreateDistributionResponse)
    async def create(self, data: bytes, call: Call) -> bytes:
        """Check uploaded rows and keep them in the store."""
        return await self._uploads.create(data, call.arrival, call.deadline, call.connection)

    @SAMPLER.unary("GetDistribution", pb.GetDistributionRequest, pb.GetDistributionResponse)
    async def get(self, request: pb.GetDistributionRequest, _call: Call) -> pb.GetDistributionResponse:
        """Describe one distribution."""
        segment, expires = self._store.describe(check_name(request.name, "name"))
        return pb.GetDistributionResponse(distribution=encode_distribution(segment, expires))

    @SAMPLER.unary("DeleteDistribution", pb.DeleteDistributionRequest, pb.DeleteDistributionResponse)
    async def delete(self, request: pb.DeleteDistributionRequest, _call: Call) -> pb.DeleteDistributionResponse:
        """Delete one distribution; requests that already have its rows keep them."""
        self._store.delete(check_name(request.name, "name"))
        return pb.DeleteDistributionResponse()

    @SAMPLER.unary("ListDistributions", pb.ListDistributionsRequest, pb.ListDistributionsResponse)
    async def list(self, request: pb.ListDistributionsRequest, _call: Call) -> pb.ListDistributionsResponse:
        """Describe one page of all distributions."""
        size, after = decode_page(request)
        names = [name for name in self._store.names() if name > after]
        return pb.ListDistributionsResponse(
            distributions=[*self._describe(names[:size])],
            next_page_token=encode_page_token(names[size - 1]) if len(names) > size else "",
        )

    def _describe(self, names: Sequence[str]) -> Iterator[pb.Distribution]:
        for name in names:
            with suppress(NotFoundError):  # another worker has just deleted it
                yield encode_distribution(*self._store.describe(name))
