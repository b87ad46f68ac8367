"""A grpcio whose calls cannot be taken over serves all the same, in its own order, and the log says so."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.requests import one_hot, tensor
from tests.support.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_server_does_without_turns_where_grpcio_is_another(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "samplerd_server.transport.grpcio.acceptor", None)  # importing it fails
    with caplog.at_level(logging.WARNING, "samplerd.transport"):
        async with Served() as served:
            served.sampler.open()
            asked = [pb.SampleRequest(tensor=tensor(one_hot(1, 100, number))) for number in range(20)]
            replies = await asyncio.gather(*map(served.stub.Sample, asked))
            assert [list(reply.samples) for reply in replies] == [[number] for number in range(20)]
            assert await served.stop()
    [record] = caplog.records
    assert "many calls of one connection make those of others wait" in record.getMessage()
