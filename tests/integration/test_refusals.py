"""Every refusal is counted, those of the transports too, and what is known of a worker is shown."""

from __future__ import annotations

import asyncio
import struct

import grpc
import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from tests.support.http2 import Connection
from tests.support.served import connect, failure, stub

MAX_MESSAGE_BYTES = 4 << 20
"""Of the daemon that all tests share."""
UNREAD = 'samplerd_unread_calls_total{stage="reading"}'
SHED = 'samplerd_shed_total{reason="message_bytes"}'
REFUSED = 'samplerd_requests_total{code="RESOURCE_EXHAUSTED",rpc="Sample"}'


async def until_more(daemon, before, name, more):
    """Wait until a series has grown by so much: a call may end in the server a moment after its caller sees it."""
    async with asyncio.timeout(30):
        while (now := await asyncio.to_thread(daemon.metrics))[name] < before[name] + more:
            pass
    assert now[name] == before[name] + more
    return now


async def test_messages_over_the_limit_are_counted(daemon):
    before = await asyncio.to_thread(daemon.metrics)
    large = pb.SampleRequest(tensor=pb.Tensor(data=bytes(MAX_MESSAGE_BYTES)))
    async with connect(daemon.address) as channel:
        for _ in range(3):
            error = await failure(stub(channel).Sample(large))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    if daemon.transport == "grpcio":
        now = await until_more(daemon, before, UNREAD, 3)
        assert now[SHED] == before[SHED]
    else:
        now = await until_more(daemon, before, SHED, 3)
        assert now[UNREAD] == before[UNREAD]
        assert now[REFUSED] == before[REFUSED] + 3


async def test_calls_that_end_before_their_message_has_come_are_counted(daemon):
    before = await asyncio.to_thread(daemon.metrics)

    def leave() -> None:
        with Connection(daemon.address) as connection:
            stream = connection.start()
            connection.send(stream, struct.pack(">BI", 0, 1000) + bytes(10))
            late = connection.start(("grpc-timeout", "20m"))
            assert connection.finish(late).grpc_status == 4

    await asyncio.to_thread(leave)
    await until_more(daemon, before, UNREAD, 2)


async def test_what_is_drawn_and_who_holds_connections_is_shown(daemon):
    before = await asyncio.to_thread(daemon.metrics)
    async with connect(daemon.address) as channel:
        tensor = pb.Tensor(dtype=pb.DTYPE_F16, rows=2, vocab_size=2000, data=np.zeros(4000, np.float16).tobytes())
        await stub(channel).Sample(pb.SampleRequest(tensor=tensor, params=pb.SamplingParams(top_k=3)))
        now = await asyncio.to_thread(daemon.metrics)
    assert now['samplerd_worker_connections{worker="0"}'] >= 1
    for name, label in [("source", "logits"), ("dtype", "f16"), ("vocabulary", "16384"), ("filter", "top_k")]:
        series = f'samplerd_{name}_rows_total{{{"up_to" if name == "vocabulary" else name}="{label}"}}'
        assert now[series] == before[series] + 2
    for name in ("calls_total", "event_loop_cpu_seconds_total"):
        series = f'samplerd_worker_{name}{{worker="0"}}'
        assert now[series] > before[series]
    assert "samplerd_certificate_expiry_timestamp_seconds" not in now
