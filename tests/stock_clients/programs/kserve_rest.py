"""What a user of KServe's Python SDK writes: InferenceRESTClient with binary data, numpy arrays and lists.

Prints one JSON object of what it got. Run with the address.
"""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

ROW = np.array([[1, 2, 0.5, 1.5]], np.float32)
ASKED = {"temperature": 0.7, "seed": 42, "num_samples": 5}


def request(*inputs, **fields):
    return InferRequest("sampler", list(inputs), **{"parameters": ASKED, **fields})


def from_numpy(name, array, datatype, binary=True):
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def samples(response):
    return response.get_output_by_name("samples").as_numpy().tolist()


async def run(address):
    url = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        async def infer(own):
            return await client.infer(url, own, model_name="sampler")

        logits = from_numpy("logits", ROW, "FP32")
        plain = await infer(request(logits, request_id="one"))
        replayed = await infer(request(logits, parameters={"temperature": 0.7, "num_samples": 5}))
        again = await infer(request(logits, parameters={**ASKED, "seed": replayed.parameters["seed"]}))
        outputs = [RequestedOutput("samples", parameters={"binary_data": True})]
        half = from_numpy("logits", ROW.astype(np.float16), "FP16")
        told = {
            "live": [await client.is_server_live(url), await client.is_server_ready(url)],
            "model": [await client.is_model_ready(url, name) for name in ("sampler", "wrong_model_name")],
            "binary": samples(plain),
            "logprobs": plain.get_output_by_name("logprobs").as_numpy().tolist(),
            "id": plain.id,
            "half": samples(await infer(request(half))),
            "json": samples(await infer(request(from_numpy("logits", ROW, "FP32", binary=False)))),
            "list": samples(await infer(request(InferInput("logits", [1, 4], "FP32", ROW[0].tolist())))),
            "outputs": samples(await infer(request(logits, request_outputs=outputs))),
            "all_binary": samples(await infer(request(logits, parameters={**ASKED, "binary_data_output": True}))),
            "largest": samples(await infer(request(logits, parameters={**ASKED, "seed": 2**64 - 1}))),
            "replayed": [samples(replayed), samples(again)],
        }
        try:
            await client.infer(url, request(logits), model_name="wrong_model_name")
        except httpx.HTTPStatusError as error:
            told["wrong"] = str(error)
        return told


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(*sys.argv[1:]))))
