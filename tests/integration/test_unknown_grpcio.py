"""A grpcio whose calls cannot be taken over serves all the same, in its own order, and the log says so."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.transport.grpcio.stream_context import StreamContext
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


async def test_a_server_reads_streams_message_by_message_where_grpcio_is_another(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "samplerd_server.transport.grpcio.stream_handlers", None)
    with caplog.at_level(logging.WARNING, "samplerd.transport"):
        async with Served() as served:
            served.sampler.open()
            asked = [pb.SampleRequest(id=number, tensor=tensor(one_hot(1, 100, number))) for number in range(20)]
            replies = [reply async for reply in served.stub.SampleStream(iter(asked))]
            assert sorted((reply.id, *reply.samples) for reply in replies) == [(number, number) for number in range(20)]
            assert await served.stop()
    [record] = caplog.records
    assert "streams are slow" in record.getMessage()


async def test_a_stream_takes_what_is_there_in_one_go(monkeypatch):
    written: list[int] = []
    write_many = StreamContext.write_many

    async def note(self: StreamContext, messages: list[bytes]) -> None:
        written.append(len(messages))
        await write_many(self, messages)

    monkeypatch.setattr(StreamContext, "write_many", note)
    async with Served() as served:
        served.sampler.open()
        asked = [pb.SampleRequest(id=number, tensor=tensor(one_hot(1, 100, number))) for number in range(20)]
        replies = [reply async for reply in served.stub.SampleStream(iter(asked))]
        assert sorted((reply.id, *reply.samples) for reply in replies) == [(number, number) for number in range(20)]
    assert sum(written) == 20
