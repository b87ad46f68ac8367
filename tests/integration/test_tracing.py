"""Traces of real servers, as a collector gets them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import grpc
import pytest

from samplerd.v1 import sampler_pb2 as pb
from tests.support.collector import Collector, values
from tests.support.daemon import Daemon
from tests.support.served import connect, failure, stub
from tests.support.web import post

FIELDS: dict[str, Any] = {"values": pb.Values(row=[pb.Values.Row(values=[1, 2, 3])] * 2), "num_samples": 5}
GOOD = pb.SampleRequest(**FIELDS)
BAD = pb.SampleRequest(tensor=pb.Tensor(vocab_size=2, data=b"123"))
SAMPLE = "samplerd.v1.SamplerService/Sample"
SERVERS = ("grpcio --workers 2", "envoy --workers 2", "grpcio --doors 2", "envoy --doors 2")


@pytest.fixture(scope="module")
def collector():
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module", params=SERVERS)
def server(request, collector):
    transport, *processes = request.param.split()
    http = ("--http-listen", "127.0.0.1:0") if transport == "grpcio" else ()
    environment = {**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_RESOURCE_ATTRIBUTES": "team=red"}
    flags = ("--trace-endpoint", collector.url, "--trace-sample", "0", *processes)
    with Daemon("--transport", transport, *flags, *http, env=environment) as daemon:
        daemon.traces = 0x1000 * (1 + SERVERS.index(request.param))  # ids of traces from here on are of this server
        yield daemon


def parent(number: int, flags: str = "01") -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{number:032x}-{number:016x}-{flags}"), ("tracestate", "vendor=value"))


def of_trace(number: int):
    return lambda span: span.trace_id == number.to_bytes(16, "big")


async def test_a_call_is_a_span_of_its_callers_trace_with_its_stages(server, collector):
    number = server.traces + 1
    began = time.time_ns()
    async with connect(server.address) as channel:
        await stub(channel).Sample(GOOD, metadata=(*parent(number), ("x-request-id", f"traced-{number}")))
    ended = time.time_ns()
    resource, span = await asyncio.to_thread(collector.find, of_trace(number))
    assert resource["service.name"] == "samplerd"
    assert resource["team"] == "red"
    assert resource["service.instance.id"].count(":") == 2, "host, process and worker"
    assert (span.name, span.kind) == (SAMPLE, span.SPAN_KIND_SERVER)
    assert span.parent_span_id == number.to_bytes(8, "big")
    assert span.trace_state == "vendor=value"
    found = values(span.attributes)
    expected = {
        "rpc.system": "grpc",
        "rpc.service": "samplerd.v1.SamplerService",
        "rpc.method": "Sample",
        "rpc.grpc.status_code": 0,
        "samplerd.rows": 2,
        "samplerd.samples": 10,
        "samplerd.vocabulary": 3,
        "samplerd.request_id": f"traced-{number}",
        "samplerd.protocol": "grpc",
        "samplerd.requests": 1,
    }
    assert found == expected
    assert [event.name for event in span.events] == ["wait", "batch", "compute", "encode"]
    moments = [span.start_time_unix_nano, *(event.time_unix_nano for event in span.events), span.end_time_unix_nano]
    assert began - 50_000_000 < moments[0], "the clocks of one machine, read one after the other"
    assert moments[-1] < ended + 50_000_000
    assert moments == sorted(moments)

    [link] = span.links
    _, batch = await asyncio.to_thread(collector.find, lambda own: own.span_id == link.span_id)
    assert (batch.name, batch.trace_id, batch.parent_span_id) == ("batch", link.trace_id, b"")
    about = values(batch.attributes)
    assert (about["samplerd.batch.rows"], about["samplerd.batch.callers"], about["samplerd.device"]) == (2, 1, "cpu")
    assert batch.start_time_unix_nano < batch.end_time_unix_nano
    assert collector.paths == {"/v1/traces"}


async def test_who_decides_is_the_caller(server, collector):
    numbers = [server.traces + 0x101, server.traces + 0x102, server.traces + 0x103]
    async with connect(server.address) as channel:
        await stub(channel).Sample(GOOD, metadata=parent(numbers[0], "00"))
        await stub(channel).Sample(GOOD)
        await stub(channel).Sample(GOOD, metadata=(("traceparent", "00-nonsense"),))
        error = await failure(stub(channel).Sample(BAD, metadata=parent(numbers[1])))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        asked = [pb.SampleRequest(id=1, **FIELDS), pb.SampleRequest(id=2**63, **FIELDS), pb.SampleRequest(id=3)]
        stream = stub(channel).SampleStream(iter(asked), metadata=parent(numbers[2]))
        assert len([reply async for reply in stream]) == 3
    _, failed = await asyncio.to_thread(collector.find, of_trace(numbers[1]))
    assert values(failed.attributes)["rpc.grpc.status_code"] == 3
    assert failed.status.code == failed.status.STATUS_CODE_UNSET, "the caller is to blame"
    await check_stream(collector, numbers[2])
    traces = {span.trace_id for _, span in collector.spans if span.name != "batch"}
    assert not any(of_trace(numbers[0])(span) for _, span in collector.spans)
    assert all(int.from_bytes(trace, "big") < 0x10000 for trace in traces), "a call without a decision was traced"


async def check_stream(collector: Collector, number: int) -> None:
    """A stream has a span, and each of its requests has one below it, with its own moments and its own batch."""

    def of_stream(span, **about):
        return of_trace(number)(span) and about.items() <= values(span.attributes).items()

    _, stream = await asyncio.to_thread(collector.find, lambda span: of_stream(span, **{"samplerd.requests": 2}))
    assert (stream.name, stream.kind) == (f"{SAMPLE}Stream", stream.SPAN_KIND_SERVER)
    assert stream.parent_span_id == number.to_bytes(8, "big")
    assert values(stream.attributes)["samplerd.rows"] == 4
    assert (list(stream.events), list(stream.links)) == ([], [])
    for request_id, code in [(1, 0), (2**63, 0), (3, 3)]:
        about = {"samplerd.request.id": str(request_id)}
        _, span = await asyncio.to_thread(collector.find, lambda span, about=about: of_stream(span, **about))
        assert (span.name, span.parent_span_id) == ("request", stream.span_id)
        assert values(span.attributes)["rpc.grpc.status_code"] == code
        assert values(span.attributes)["samplerd.samples"] == (10 if code == 0 else 0)
        names = [event.name for event in span.events]
        assert names == (["wait", "batch", "compute", "encode"] if code == 0 else [])
        moments = [span.start_time_unix_nano, *(own.time_unix_nano for own in span.events), span.end_time_unix_nano]
        assert moments == sorted(moments)
        assert len(span.links) == len(names) // 4
        for link in span.links:
            _, batch = await asyncio.to_thread(collector.find, lambda own, link=link: own.span_id == link.span_id)
            assert batch.name == "batch"


async def test_a_large_draw_on_a_stream_has_the_moments_of_its_parts(server, collector):
    number = server.traces + 0x201
    rows = pb.CreateDistributionRequest(name="traced", values=FIELDS["values"])
    asked = pb.SampleRequest(id=9, distribution="traced", num_samples=200_000)
    async with connect(server.address) as channel:
        await stub(channel).CreateDistribution(rows)
        stream = stub(channel).SampleStream(iter([asked]), metadata=parent(number))
        replies = [reply async for reply in stream]
        await stub(channel).DeleteDistribution(pb.DeleteDistributionRequest(name="traced"))
    assert len(replies) > 1
    _, span = await asyncio.to_thread(collector.find, lambda own: of_trace(number)(own) and own.name == "request")
    assert values(span.attributes)["samplerd.samples"] == 400_000
    assert [event.name for event in span.events].count("encode") == len(replies)


def test_http_carries_it_too(server, collector):
    first = server.traces + 0x301
    infer = {"inputs": [{"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    for number, protocol, path, body in [
        (first, "connect", f"/{SAMPLE}", {"values": {"row": [{"values": [1, 2]}]}}),
        (first + 1, "http", "/v2/models/sampler/infer", infer),
    ]:
        status, _, _ = post(server.http_address, json.dumps(body), path=path, **dict(parent(number)))
        assert status == 200
        _, span = collector.find(of_trace(number))
        assert values(span.attributes)["samplerd.protocol"] == protocol
        assert [event.name for event in span.events] == ["wait", "batch", "compute", "encode"]
        post(server.http_address, "{", path=path, **dict(parent(number + 0x10)))
        _, unread = collector.find(of_trace(number + 0x10))
        assert values(unread.attributes)["samplerd.protocol"] == protocol
        assert values(unread.attributes)["rpc.grpc.status_code"] == 3


def test_spans_that_wait_are_sent_before_the_end():
    with Collector() as collector:  # of its own: here every call is traced
        environment = {**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}

        async def ask(address: str) -> None:
            async with connect(address) as channel:
                await stub(channel).Sample(GOOD, metadata=(("x-request-id", "last"),))

        with Daemon("--trace-sample", "1", "--access-log", env=environment) as daemon:
            asyncio.run(ask(daemon.address))
            told = daemon.wait_event("call")["trace_id"]
            assert not [
                span for _, span in collector.spans if values(span.attributes).get("samplerd.request_id") == "last"
            ]
        _, span = collector.find(lambda span: values(span.attributes).get("samplerd.request_id") == "last")
        assert span.parent_span_id == b""
        assert span.trace_id.hex() == told
