"""Thousands of calls at once on one connection: more than its streams, and more than grpcio holds by itself."""

from __future__ import annotations

import asyncio
from collections import Counter

import grpc
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.requests import one_hot, tensor

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def outcome(service, request: pb.SampleRequest) -> str:
    try:
        reply = await service.Sample(request)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK" if reply.samples == [7] else f"drew {reply.samples}"


@pytest.mark.parametrize("calls", [3000, 5000])
async def test_more_calls_than_streams_wait_in_the_client_and_none_is_lost(service, calls):
    request = pb.SampleRequest(tensor=tensor(one_hot(1, 100, 7)))
    outcomes = await asyncio.gather(*(outcome(service, request) for _ in range(calls)))
    assert Counter(outcomes) == {"OK": calls}
