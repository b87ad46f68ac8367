"""The official Connect client for Python, with its default gzip: unary calls, GET, streams, errors and deadlines.

Arguments: the server's address, the protocol (connect, grpc or grpc_web) and the codec (proto or json).
"""

import asyncio
import json
import sys

from connectrpc.codec import proto_json_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from gen.samplerd.v1 import sampler_pb as pb
from gen.samplerd.v1.sampler_connect import SamplerServiceClient
from protobuf import Oneof
from pyqwest import Client, HTTPTransport, HTTPVersion


def request(number=0, samples=5):
    row = pb.Values.Row(values=[1, 2, 0.5, 1.5])
    params = pb.SamplingParams(temperature=0.7)
    return pb.SampleRequest(
        id=number, source=Oneof("values", pb.Values(row=[row])), params=params, num_samples=samples, seed=42
    )


async def failure(call):
    """What a call that must fail says."""
    try:
        await call
    except ConnectError as error:
        return {"code": error.code.value, "message": error.message, "details": [one.type_name for one in error.details]}
    raise AssertionError("it succeeded")


async def draw_from_distribution(client):
    """Upload a row, draw from it chunk by chunk, and stop such a draw after its first chunk."""
    row = pb.Values.Row(values=[1, 2, 0.5, 1.5])
    upload = pb.CreateDistributionRequest(
        source=Oneof("values", pb.Values(row=[row])), params=pb.SamplingParams(temperature=0.7)
    )
    name = (await client.create_distribution(upload)).distribution.name

    def draw(samples):
        return pb.SampleRequest(source=Oneof("distribution", name), num_samples=samples, seed=42)

    chunks = [reply async for reply in client.sample_distribution(draw(1_000_000))]
    whole = [own for reply in chunks for own in reply.samples]
    once = list((await client.sample(draw(20_000))).samples)
    endless = client.sample_distribution(draw(100_000_000))
    first = await anext(endless)
    await endless.aclose()
    await client.delete_distribution(pb.DeleteDistributionRequest(name=name))

    async def draw_again():
        return [reply async for reply in client.sample_distribution(draw(5))]

    return {
        "begins": whole[:5],
        "samples": len(whole),
        "final": [reply.final for reply in chunks],
        "begins_as_one_reply": whole[:20_000] == once,
        "stopped_after": list(first.samples[:5]),
        "deleted": await failure(draw_again()),
    }


async def main(address, protocol, codec):
    transport = HTTPTransport(http_version=HTTPVersion.HTTP2)
    client = SamplerServiceClient(
        f"http://{address}",
        protocol=ProtocolType[protocol.upper()],
        codec=proto_json_codec() if codec == "json" else None,
        http_client=Client(transport),
    )
    told = {}
    told["unary"] = list((await client.sample(request())).samples)
    told["long"] = len((await client.sample(request(samples=20_000))).samples)
    big = pb.SampleRequest(
        seed=1, source=Oneof("tensor", pb.Tensor(vocab_size=100_000, data=bytes(399_996) + b"\x00\x00\xc8\x42"))
    )
    told["big"] = list((await client.sample(big)).samples)
    told["at_once"] = [
        list(reply.samples) for reply in await asyncio.gather(*(client.sample(request()) for _ in range(20)))
    ]
    if protocol == "connect":
        told["get"] = list((await client.sample(request(), use_get=True)).samples)
        told["get_info"] = (await client.get_server_info(pb.GetServerInfoRequest(), use_get=True)).device

    async def requests():
        for number in range(1, 6):
            yield request(number)

    told["bidi"] = sorted([(reply.id, list(reply.samples)) async for reply in client.sample_stream(requests())])
    # One request and many replies: the same bytes as a stream in both directions that the client closes at once.
    method = MethodInfo(
        name="SampleStream",
        service_name="samplerd.v1.SamplerService",
        input=pb.SampleRequest,
        output=pb.SampleResponse,
        idempotency_level=IdempotencyLevel.NO_SIDE_EFFECTS,
        stream_type=StreamType.SERVER_STREAM,
    )
    replies = client.execute_server_stream(request=request(samples=1_000_000), method=method)
    told["server_stream"] = [len(reply.samples) async for reply in replies]
    told["distribution"] = await draw_from_distribution(client)
    wrong = request()
    wrong.params.top_p = 7.0
    told["invalid"] = await failure(client.sample(wrong))
    told["not_found"] = await failure(client.sample(pb.SampleRequest(source=Oneof("distribution", "none"))))
    told["too_large"] = await failure(
        client.sample(pb.SampleRequest(source=Oneof("tensor", pb.Tensor(vocab_size=1, data=bytes(80 << 20)))))
    )
    slow = pb.SampleRequest(num_samples=20_000, replacement=pb.Replacement.WITHOUT, seed=1)
    slow.source = Oneof("tensor", pb.Tensor(vocab_size=500_000, data=bytes(2_000_000)))
    told["deadline"] = await failure(client.sample(slow, timeout_ms=2))
    print(json.dumps(told))


asyncio.run(main(*sys.argv[1:]))
