"""A client that floods a stream, says so, and dies without a word to the server when its standard input closes."""

import asyncio
import os
import sys

import grpc

from samplerd.v1 import sampler_pb2 as pb
from samplerd.v1 import sampler_pb2_grpc


async def main(address: str) -> None:
    channel = grpc.aio.insecure_channel(address)
    stub = sampler_pb2_grpc.SamplerServiceStub(channel)
    stream = stub.SampleStream()
    for number in range(20):
        await stream.write(pb.SampleRequest(id=number, tensor=pb.Tensor(vocab_size=2, data=bytes(8))))
    unary = stub.Sample(pb.SampleRequest(tensor=pb.Tensor(vocab_size=2, data=bytes(8))))
    await stub.GetServerInfo(pb.GetServerInfoRequest())
    sys.stdout.write("sent\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    assert not unary.done()
    os._exit(9)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
