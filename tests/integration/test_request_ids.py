"""A call is found again by its request id, whatever protocol it came by and however it ended."""

from __future__ import annotations

import json

import grpc
import numpy as np
import pytest

from samplerd.oip import grpc_service_pb2 as oip
from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import InvalidRequestError, SamplerClient, SyncSamplerClient, call_metadata
from samplerd_client.samplerctl import main
from samplerd_server.transport.rpc.request_id import accept
from tests.support.daemon import Daemon
from tests.support.served import connect, details, failure, status_of, stub
from tests.support.web import frame, frames, post

GOOD = pb.SampleRequest(values=pb.Values(row=[pb.Values.Row(values=[1, 2])]))
BAD = pb.SampleRequest(tensor=pb.Tensor(vocab_size=2, data=b"123"))
MINE = (("x-request-id", "order-17"),)
SAMPLE = "/samplerd.v1.SamplerService/Sample"


@pytest.fixture(scope="module", params=["grpcio", "envoy"])
def server(request):
    http = ("--http-listen", "127.0.0.1:0") if request.param == "grpcio" else ()
    with Daemon("--transport", request.param, *http) as daemon:
        yield daemon


async def test_a_call_that_is_answered_tells_the_id_that_was_sent(server):
    async with connect(server.address) as channel:
        for metadata, told in [(MINE, "order-17"), ((), None), ((("x-request-id", "two words"),), None)]:
            call = stub(channel).Sample(GOOD, metadata=metadata)
            await call
            assert dict(await call.trailing_metadata()).get("x-request-id") == told
        stream = stub(channel).SampleStream(iter([GOOD]), metadata=MINE)
        async for reply in stream:
            assert not reply.HasField("error")
        assert dict(await stream.trailing_metadata())["x-request-id"] == "order-17"


async def test_an_error_tells_its_id_sent_or_made(server):
    seen = set()
    async with connect(server.address) as channel:
        for metadata in [MINE, (), (), (("x-request-id", "x" * 129),)]:
            error = await failure(stub(channel).Sample(BAD, metadata=metadata))
            told = [value for key, value in error.trailing_metadata() if key == "x-request-id"]
            assert told == [details(status_of(error))["RequestInfo"].request_id]
            assert accept(told[0])
            seen.add(told[0])
    assert "order-17" in seen
    assert len(seen) == 4


async def test_a_failed_request_of_a_stream_tells_the_id_of_its_call(server):
    async with connect(server.address) as channel:
        stream = stub(channel).SampleStream(iter([BAD]), metadata=MINE)
        [reply] = [reply async for reply in stream]
    assert details(reply.error)["RequestInfo"].request_id == "order-17"


def test_http_has_a_header(server):
    def ask(body, **headers):
        status, told, body = post(server.http_address, body, **headers)
        return status, told.get("x-request-id"), body

    good, bad = json.dumps({"values": {"row": [{"values": [1, 2]}]}}), "{"
    assert ask(good, x_request_id="order-17")[:2] == (200, "order-17")
    assert ask(good)[:2] == (200, None)
    status, told, body = ask(bad, x_request_id="order-17")
    assert (status, told) == (400, "order-17")
    infos = [own["debug"] for own in json.loads(body)["details"] if own["type"] == "google.rpc.RequestInfo"]
    assert infos == [{"requestId": "order-17"}]
    assert accept(ask(bad)[1])
    path = "/v2/models/sampler/infer"
    infer = json.dumps({"inputs": [{"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]})
    assert ask(infer, path=path, x_request_id="order-17")[:2] == (200, "order-17")
    assert ask("{", path=path, x_request_id="order-17")[:2] == (400, "order-17")
    assert accept(ask("{}", path="/v2/models/other/infer")[1])


def test_grpc_web_has_a_trailer(server):
    for message in (GOOD, BAD):
        _, _, body = post(
            server.http_address, frame(message.SerializeToString()), "application/grpc-web", x_request_id="order-17"
        )
        assert b"x-request-id: order-17\r\n" in dict(frames(body))[0x80]


async def test_the_open_inference_protocol_tells_it_too(server):
    async with connect(server.address) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        error = await failure(infer(oip.ModelInferRequest(model_name="sampler"), metadata=MINE))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(status_of(error))["RequestInfo"].request_id == "order-17"


async def test_clients_set_and_show_it(server, capsys):
    row = np.array([1, 2], np.float32)
    async with SamplerClient(server.address) as client:
        with call_metadata({"x-request-id": "order-18"}), pytest.raises(InvalidRequestError) as caught:
            await client.sample(row, top_p=2.0)
        assert caught.value.request_id == "order-18"
        with pytest.raises(InvalidRequestError) as caught:
            await client.sample(row, top_p=2.0)
        assert accept(caught.value.request_id)
    with SyncSamplerClient(server.address) as client, call_metadata({"x-request-id": "order-19"}):
        with pytest.raises(InvalidRequestError) as caught:
            client.sample(row, top_p=2.0)
        assert caught.value.request_id == "order-19"


def test_samplerctl_prints_it(server, capsys):
    assert main(["distribution", "delete", "none-such", "--server", server.address]) == 1
    assert "(request id " in capsys.readouterr().err
