"""The access log, and the log of refusals, of real servers and of one whose device stands still."""

from __future__ import annotations

import asyncio
import hashlib
import json

import grpc
import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.process import log
from tests.support.daemon import Daemon
from tests.support.requests import one_hot, tensor
from tests.support.served import Served, connect, failure, stub
from tests.support.web import frame, post

TOKEN = (("authorization", "Bearer right"),)
SERVICE = "/samplerd.v1.SamplerService/"
GOOD = pb.SampleRequest(values=pb.Values(row=[pb.Values.Row(values=[1, 2])] * 3), num_samples=2)
BAD = pb.SampleRequest(tensor=pb.Tensor(vocab_size=2, data=b"123"))
LEFT_OUT = "calls were refused that have no line of their own"


@pytest.fixture(scope="module", params=["grpcio", "envoy", "grpcio --doors 2", "envoy --doors 2"])
def server(request, tmp_path_factory):
    transport, *doors = request.param.split()
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    digest = hashlib.sha256(b"right").hexdigest()
    tokens.write_text(f"tester:sha256:{digest}\n")
    http = ("--http-listen", "127.0.0.1:0") if transport == "grpcio" else ()
    flags = ("--access-log", "--token-file", str(tokens), "--max-message-bytes", "1MiB", *doors)
    with Daemon("--transport", transport, *flags, *http, unix=None) as daemon:
        yield daemon


def line_of(server: Daemon, request_id: str) -> dict:
    """The line of a call, which is written a moment after its caller has the reply."""
    while True:
        line = server.wait_event("call")
        if line["request_id"] == request_id:
            return line


async def test_a_call_has_a_line_with_what_it_took(server):
    async with connect(server.address) as channel:
        reply = await stub(channel).Sample(GOOD, metadata=(*TOKEN, ("x-request-id", "one")))
        line = line_of(server, "one")
        error = await failure(stub(channel).Sample(BAD, metadata=TOKEN))
    expected = {
        "logger": "samplerd.access",
        "level": "info",
        "method": SERVICE + "Sample",
        "code": "OK",
        "caller": "tester",
        "transport": server.transport,
        "protocol": "grpc",
        "requests": 1,
        "rows": 3,
        "samples": 6,
        "bytes_in": GOOD.ByteSize(),
        "bytes_out": reply.ByteSize(),
    }
    assert {name: line[name] for name in expected} == expected
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert 0 < line["compute_ms"] < line["total_ms"]
    assert 0 <= line["wait_ms"] < line["total_ms"]
    assert line["pid"] > 1
    failed = line_of(server, dict(error.trailing_metadata())["x-request-id"])
    assert (failed["code"], failed["rows"], failed["bytes_in"]) == ("INVALID_ARGUMENT", 0, BAD.ByteSize())


async def test_a_stream_has_one_line(server):
    async with connect(server.address) as channel:
        stream = stub(channel).SampleStream(iter([GOOD, BAD, GOOD]), metadata=(*TOKEN, ("x-request-id", "stream")))
        sent = [reply.ByteSize() async for reply in stream]
    line = line_of(server, "stream")
    assert (line["code"], line["requests"], line["rows"], line["samples"]) == ("OK", 2, 6, 12)
    assert line["bytes_in"] == 2 * GOOD.ByteSize() + BAD.ByteSize()
    assert line["bytes_out"] == sum(sent)


async def test_requests_of_a_stream_that_come_together_count_each(server):
    rows = [pb.SampleRequest(id=number, seed=number, tensor=tensor([[0.0, 1.0]])) for number in range(64)]
    async with connect(server.address) as channel:
        stream = stub(channel).SampleStream(iter(rows), metadata=(*TOKEN, ("x-request-id", "together")))
        sent = [reply.ByteSize() async for reply in stream]
    line = line_of(server, "together")
    assert (line["code"], line["requests"], line["rows"], line["samples"]) == ("OK", 64, 64, 64)
    assert line["bytes_in"] == sum(row.ByteSize() for row in rows)
    assert (len(sent), line["bytes_out"]) == (64, sum(sent))


def test_other_protocols_have_the_same_line(server):
    own = {"authorization": "Bearer right"}
    values = {"values": {"row": [{"values": [1, 2]}]}}
    infer = {"inputs": [{"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    for name, protocol, path, body, kind in [
        ("a", "connect", SERVICE + "Sample", json.dumps(values), "application/json"),
        ("b", "grpc-web", SERVICE + "Sample", frame(GOOD.SerializeToString()), "application/grpc-web"),
        ("c", "http", "/v2/models/sampler/infer", json.dumps(infer), "application/json"),
    ]:
        status, _, _ = post(server.http_address, body, kind, path=path, x_request_id=name, **own)
        assert status == 200
        line = line_of(server, name)
        method = "/inference.GRPCInferenceService/ModelInfer" if protocol == "http" else path
        assert (line["protocol"], line["method"], line["code"], line["caller"]) == (protocol, method, "OK", "tester")
        assert line["rows"] > 0
        post(server.http_address, "{", kind, path=path, x_request_id=f"{name}-unread", **own)
        line = line_of(server, f"{name}-unread")
        assert (line["protocol"], line["method"], line["caller"], line["rows"]) == (protocol, method, "tester", 0)
        assert line["code"] == ("INTERNAL" if protocol == "grpc-web" else "INVALID_ARGUMENT")
        assert line["peer"].startswith("ipv4:127.0.0.1:")


async def test_refusals_are_logged_at_a_bounded_rate(server):
    async with connect(server.address) as channel:
        errors = [failure(stub(channel).Sample(GOOD, metadata=(("x-request-id", f"r{n}"),))) for n in range(60)]
        assert {error.code() for error in await asyncio.gather(*errors)} == {grpc.StatusCode.UNAUTHENTICATED}
    left_out = server.wait_event(LEFT_OUT)
    assert left_out["reason"] == "unauthenticated"
    lines = [json.loads(text) for text in server.log if '"a call was refused"' in text and '"unauthenticated"' in text]
    assert left_out["left_out"] > 0
    assert {line["code"] for line in lines} == {"UNAUTHENTICATED"}
    assert lines[0]["request_id"].startswith("r")
    assert "right" not in "".join(server.log)


async def test_a_message_that_is_too_large_has_a_line(server):
    large = pb.SampleRequest(tensor=pb.Tensor(data=bytes(2 << 20)))
    async with connect(server.address) as channel:
        error = await failure(stub(channel).Sample(large, metadata=(*TOKEN, ("x-request-id", "large"))))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    if server.transport == "envoy":  # grpcio refuses it in its own core, and tells nobody
        assert line_of(server, "large")["code"] == "RESOURCE_EXHAUSTED"
        assert [line for line in map(json.loads, server.log) if line.get("reason") == "message_too_large"]


async def test_shed_requests_are_logged_without_an_access_log(caplog, monkeypatch):
    monkeypatch.setattr(log, "_background", None)
    row = pb.SampleRequest(tensor=tensor(one_hot(1, 10, 3)))
    async with Served(admission={"queue_rows": 1}) as served:
        calls = []
        while not served.app.queue.rows:  # one at the device, one closed ahead, one in the queue
            calls.append(served.stub.Sample(row))
            await served.round_trip()
        error = await failure(served.stub.Sample(row, metadata=(("x-request-id", "shed"),)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        stream = served.stub.SampleStream(iter([row]), metadata=(("x-request-id", "shed-stream"),))
        assert [reply.error.code async for reply in stream] == [8]
        served.sampler.open()
        await asyncio.gather(*calls)
    refused = [own.values for own in caplog.records if own.getMessage() == "a call was refused"]
    assert [(own["request_id"], own["reason"], own["code"]) for own in refused] == [
        ("shed", "queue_rows", "RESOURCE_EXHAUSTED"),
        ("shed-stream", "queue_rows", "RESOURCE_EXHAUSTED"),
    ]
    assert not [own for own in caplog.records if own.name == "samplerd.access"]
