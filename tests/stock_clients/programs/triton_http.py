"""What the published examples of tritonclient.http do, with samplerd's model: asyncio, compression, shared memory too.

Prints one JSON object of what it got. Run with the address, and the prefix of shared memory.
"""

import asyncio
import json
import os
import sys

import numpy as np
import tritonclient.http as httpclient
import tritonclient.http.aio as aioclient
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

ROW = np.array([[1, 2, 0.5, 1.5]], np.float32)
ASKED = {"temperature": 0.7, "seed": 42, "num_samples": 5}


def tensors(binary=True, row=ROW, client=httpclient):
    inputs = [client.InferInput("logits", list(row.shape), "FP32")]
    inputs[0].set_data_from_numpy(row, binary_data=binary)
    return inputs


def samples(result):
    return result.as_numpy("samples").tolist()


def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return ""


def health_metadata(client):
    """simple_http_health_metadata.py"""
    return {
        "live": client.is_server_live(query_params={"test_1": 1, "test_2": 2}),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready("sampler"),
        "version": client.is_model_ready("sampler", "1"),
        "unknown": client.is_model_ready("wrong_model_name"),
        "server": client.get_server_metadata()["name"],
        "metadata": client.get_model_metadata("sampler", query_params={"test_1": 1})["name"],
        "config": client.get_model_config("sampler")["name"],
        "statistics": client.get_inference_statistics("sampler")["model_stats"][0]["name"],
        "wrong": refusal(lambda: client.get_model_metadata("wrong_model_name")),
    }


def model_control(client):
    """simple_http_model_control.py, and the settings that a client can ask for."""
    return {
        "index": [(model["name"], model["state"]) for model in client.get_model_repository_index()],
        "trace": client.get_trace_settings()["trace_level"],
        "log": client.get_log_settings()["log_error"],
        "cuda": client.get_cuda_shared_memory_status(),
        "load": refusal(lambda: client.load_model("wrong_model_name")),
    }


def infer(client):
    """simple_http_infer_client.py"""
    wanted = [
        httpclient.InferRequestedOutput("samples", binary_data=True),
        httpclient.InferRequestedOutput("logprobs", binary_data=False),
    ]
    mixed = client.infer("sampler", tensors(binary=False), outputs=wanted, parameters=ASKED, request_id="one")
    wide = np.random.default_rng(5).normal(0, 3, (64, 1000)).astype(np.float32)
    zipped = {
        name: client.infer(
            "sampler",
            tensors(row=wide),
            parameters={"seed": 7, "num_samples": 20},
            request_compression_algorithm=name,
            response_compression_algorithm=name,
        )
        for name in ("gzip", "deflate", None)
    }
    return {
        "binary": samples(client.infer("sampler", tensors(), parameters=ASKED)),
        "json": samples(client.infer("sampler", tensors(binary=False), parameters=ASKED)),
        "mixed": samples(mixed),
        "logprobs": mixed.as_numpy("logprobs").tolist(),
        "id": mixed.get_response()["id"],
        "version": samples(client.infer("sampler", tensors(), model_version="1", parameters=ASKED)),
        "async": samples(client.async_infer("sampler", tensors(), parameters=ASKED).get_result()),
        "zipped": [samples(zipped[name]) == samples(zipped[None]) for name in ("gzip", "deflate")],
        "largest": samples(client.infer("sampler", tensors(), parameters={**ASKED, "seed": 2**64 - 1})),
        "wrong": refusal(lambda: client.infer("sampler", tensors(), parameters={"top_p": 7.0})),
        "model": refusal(lambda: client.infer("wrong_model_name", tensors())),
    }


def shared_memory(client, prefix):
    """simple_http_shm_client.py"""
    output_key, input_key = (f"/{prefix}http-{kind}-{os.getpid()}" for kind in ("output", "input"))
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    outputs = shm.create_shared_memory_region("output_data", output_key, 40)
    client.register_system_shared_memory("output_data", output_key, 40)
    inputs = shm.create_shared_memory_region("input_data", input_key, ROW.nbytes)
    shm.set_shared_memory_region(inputs, [ROW])
    client.register_system_shared_memory("input_data", input_key, ROW.nbytes)
    asked = httpclient.InferInput("logits", [1, 4], "FP32")
    asked.set_shared_memory("input_data", ROW.nbytes)
    wanted = [httpclient.InferRequestedOutput("samples"), httpclient.InferRequestedOutput("logprobs")]
    wanted[0].set_shared_memory("output_data", 20)
    wanted[1].set_shared_memory("output_data", 20, offset=20)
    result = client.infer("sampler", [asked], outputs=wanted, parameters=ASKED)
    told = result.get_output("samples")
    drawn = shm.get_contents_as_numpy(outputs, np.int32, told["shape"])
    logprobs = shm.get_contents_as_numpy(outputs, np.float32, told["shape"], offset=20)
    regions = sorted(region["name"] for region in client.get_system_shared_memory_status())
    client.unregister_system_shared_memory()
    got = {"samples": drawn.tolist(), "logprobs": logprobs.tolist(), "regions": regions}
    shm.destroy_shared_memory_region(inputs)
    shm.destroy_shared_memory_region(outputs)
    return got


async def with_asyncio(address):
    """simple_http_aio_infer_client.py"""
    async with aioclient.InferenceServerClient(address) as client:
        replies = await asyncio.gather(
            *(client.infer("sampler", tensors(), parameters={**ASKED, "seed": 42 + number}) for number in range(4))
        )
        return {"ready": await client.is_server_ready(), "replies": [samples(reply) for reply in replies]}


def run(address, prefix):
    with httpclient.InferenceServerClient(address) as client:
        return {
            "health": health_metadata(client),
            "control": model_control(client),
            "infer": infer(client),
            "shared_memory": shared_memory(client, prefix),
            "aio": asyncio.run(with_asyncio(address)),
        }


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:])))
