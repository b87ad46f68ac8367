"""What a user of KServe's Python SDK writes: InferenceGRPCClient with numpy arrays, lists, and parameters as texts.

Its parameters can be texts, booleans and integers below 2^63 only: a temperature is a text. Prints one JSON object of
what it got. Run with the address.
"""

import asyncio
import json
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput

ROW = np.array([[1, 2, 0.5, 1.5]], np.float32)
ASKED = {"temperature": "0.7", "seed": 42, "num_samples": 5}


def request(*inputs, **fields):
    return InferRequest("sampler", list(inputs), **{"parameters": ASKED, **fields})


def from_numpy(name, array, datatype):
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def samples(response):
    return response.get_output_by_name("samples").as_numpy().tolist()


async def run(address):
    async with InferenceGRPCClient(address) as client:
        logits = from_numpy("logits", ROW, "FP32")
        plain = await client.infer(request(logits, request_id="one"))
        replayed = await client.infer(request(logits, parameters={"temperature": "0.7", "num_samples": 5}))
        seed = replayed.parameters["seed"].int64_param
        again = await client.infer(request(logits, parameters={**ASKED, "seed": seed}))
        outputs = [RequestedOutput("samples", parameters={"binary_data": True})]
        told = {
            "live": [await client.is_server_live(), await client.is_server_ready()],
            "model": [await client.is_model_ready("sampler"), await client.is_model_ready("wrong_model_name")],
            "numpy": samples(plain),
            "logprobs": plain.get_output_by_name("logprobs").as_numpy().tolist(),
            "id": plain.id,
            "half": samples(await client.infer(request(from_numpy("logits", ROW.astype(np.float16), "FP16")))),
            "list": samples(await client.infer(request(InferInput("logits", [1, 4], "FP32", ROW[0].tolist())))),
            "array": samples(await client.infer(request(InferInput("logits", [1, 4], "FP32", ROW)))),
            "outputs": samples(await client.infer(request(logits, request_outputs=outputs))),
            "largest": samples(await client.infer(request(logits, parameters={**ASKED, "seed": 2**63 - 1}))),
            "replayed": [samples(replayed), samples(again)],
        }
        try:
            await client.infer(InferRequest("wrong_model_name", [logits]))
        except grpc.RpcError as error:
            told["wrong"] = error.details()
        return told


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(*sys.argv[1:]))))
