"""betterproto2's stubs over grpclib: unary calls, a stream, an error and a deadline. Argument: the server's address."""

import asyncio
import json
import sys

from gen.samplerd.v1 import (
    Replacement,
    SampleRequest,
    SamplerServiceStub,
    SamplingParams,
    Tensor,
    Values,
    ValuesRow,
)
from grpclib.client import Channel
from grpclib.exceptions import GRPCError


def request(number=0, **params):
    values = Values(row=[ValuesRow(values=[1, 2, 0.5, 1.5])])
    own = SamplingParams(temperature=0.7, **params)
    return SampleRequest(id=number, values=values, params=own, num_samples=5, seed=42)


async def main(address):
    host, _, port = address.rpartition(":")
    async with Channel(host, int(port)) as channel:
        stub = SamplerServiceStub(channel)
        told = {"unary": list((await stub.sample(request())).samples)}
        many = await asyncio.gather(*(stub.sample(request()) for _ in range(20)))
        told["at_once"] = [list(reply.samples) for reply in many]
        requests = [request(number) for number in range(1, 6)]
        told["bidi"] = sorted([(reply.id, list(reply.samples)) async for reply in stub.sample_stream(requests)])
        try:
            await stub.sample(request(top_p=7.0))
        except GRPCError as error:
            told["invalid"] = {"code": error.status.name, "message": error.message}
        slow = SampleRequest(num_samples=20_000, replacement=Replacement.WITHOUT, seed=1)
        slow.tensor = Tensor(vocab_size=500_000, data=bytes(2_000_000))
        try:
            await stub.sample(slow, timeout=0.002)
        except TimeoutError:
            told["late"] = "DEADLINE_EXCEEDED"
        except GRPCError as error:
            told["late"] = error.status.name
    print(json.dumps(told))


asyncio.run(main(*sys.argv[1:]))
