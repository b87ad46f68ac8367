"""Records of calls: what is left of one whose call has ended."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace

import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.config import LogConfig, ServerConfig
from samplerd_server.metrics.metrics import Metrics
from samplerd_server.transport.rpc.arrival import ARRIVED, Arrival
from samplerd_server.transport.rpc.binding import bind
from samplerd_server.transport.rpc.contract import SAMPLER
from samplerd_server.transport.rpc.descriptor import rpcs_of
from samplerd_server.transport.rpc.observer import RpcObserver
from samplerd_server.transport.rpc.recorder import Recorder
from samplerd_server.transport.rpc.reply_bytes import ReplyBytes


class Context:
    """A call that knows its arrival, as with envoy."""

    def __init__(self) -> None:
        self.arrival = Arrival(0.0)

    def time_remaining(self) -> float:
        return 0.5

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def write(self, message: bytes) -> None:
        pass


class Owner:
    """Answers an RPC of each shape, and notes whether the call had a record."""

    records = 0

    def note(self, call) -> None:
        self.records += call.context.arrival.record is not None

    @SAMPLER.unary("GetDistribution", pb.GetDistributionRequest, pb.GetDistributionResponse)
    async def get(self, _request, call):
        self.note(call)
        return pb.GetDistributionResponse()

    @SAMPLER.bidi_stream("SampleStream", pb.SampleRequest, pb.SampleResponse)
    async def stream(self, call):
        self.note(call)

    @SAMPLER.server_stream("SampleDistribution", pb.SampleRequest, pb.SampleResponse)
    async def replies(self, data, call):
        self.note(call)
        yield data


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("rpc", ["GetDistribution", "SampleDistribution", "SampleStream"])
async def test_a_call_that_has_ended_is_gone_before_the_garbage_collector_runs(rpc, share):
    owner, metrics = Owner(), Metrics(own.labels for own in rpcs_of(Owner))
    recorder = Recorder(ServerConfig(log=LogConfig(access=True, access_sample=share)))
    details = SimpleNamespace(method=f"/samplerd.v1.SamplerService/{rpc}", invocation_metadata=())
    observer = RpcObserver(metrics, ReplyBytes(1 << 20, metrics.shed), recorder)
    found = bind([owner], observer)["samplerd.v1.SamplerService"].service(details)
    [function] = filter(None, (found.unary_unary, found.unary_stream, found.stream_stream))

    async def call() -> weakref.ref[Context]:
        context = Context()
        ARRIVED.set(context.arrival)
        await function(b"", context)
        return weakref.ref(context)

    gc.disable()
    try:
        context = await asyncio.create_task(call())
        assert owner.records == 1
        assert context() is None
    finally:
        gc.enable()
