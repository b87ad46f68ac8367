"""What the published examples of tritonclient.grpc do, with samplerd's model: plain, asyncio, streams, shared memory.

Prints one JSON object of what it got. Run with the address, and the prefix of shared memory.
"""

import asyncio
import json
import os
import queue
import sys
from functools import partial

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as aioclient
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

ROW = np.array([[1, 2, 0.5, 1.5]], np.float32)
ASKED = {"temperature": 0.7, "seed": 42, "num_samples": 5}


def tensors():
    inputs = [grpcclient.InferInput("logits", [1, 4], "FP32")]
    inputs[0].set_data_from_numpy(ROW)
    return inputs


def samples(result):
    return result.as_numpy("samples").tolist()


def health_metadata(client):
    """simple_grpc_health_metadata.py"""
    told = {
        "live": client.is_server_live(headers={"test": "1", "dummy": "2"}),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready("sampler"),
        "unknown": client.is_model_ready("wrong_model_name"),
        "server": client.get_server_metadata().name,
        "metadata": client.get_model_metadata("sampler", headers={"test": "1", "dummy": "2"}).name,
        "config": client.get_model_config("sampler").config.name,
        "statistics": client.get_inference_statistics("sampler").model_stats[0].name,
    }
    try:
        client.get_model_metadata("wrong_model_name")
    except InferenceServerException as error:
        told["wrong"] = error.message()
    return told


def model_control(client):
    """simple_grpc_model_control.py, and the settings that a client can ask for."""
    told = {
        "index": [(model.name, model.state) for model in client.get_model_repository_index().models],
        "trace": list(client.get_trace_settings().settings["trace_level"].value),
        "log": client.get_log_settings().settings["log_error"].bool_param,
        "cuda": len(client.get_cuda_shared_memory_status().regions),
    }
    try:
        client.load_model("wrong_model_name")
    except InferenceServerException as error:
        told["load"] = error.message()
    return told


def asynchronous(client):
    """simple_grpc_async_infer_client.py"""
    answered = queue.Queue()
    client.async_infer("sampler", tensors(), lambda result, error: answered.put((result, error)), parameters=ASKED)
    result, error = answered.get(timeout=60)
    assert error is None, error
    return samples(result)


def callback(done, result, error):
    done.put(error or result)


def stream(client):
    """simple_grpc_custom_repeat.py"""
    done = queue.Queue()
    client.start_stream(callback=partial(callback, done))
    for number in range(4):
        client.async_stream_infer("sampler", tensors(), request_id=str(number), parameters=ASKED)
    got = []
    while sum(result.get_response().parameters["triton_final_response"].bool_param for result in got) < 4:
        got.append(done.get(timeout=60))
    client.stop_stream()
    return {result.get_response().id: samples(result) for result in got}


def shared_memory(client, prefix):
    """simple_grpc_shm_client.py"""
    output_key, input_key = (f"/{prefix}{kind}-{os.getpid()}" for kind in ("output", "input"))
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    outputs = shm.create_shared_memory_region("output_data", output_key, 40)
    client.register_system_shared_memory("output_data", output_key, 40)
    inputs = shm.create_shared_memory_region("input_data", input_key, ROW.nbytes)
    shm.set_shared_memory_region(inputs, [ROW])
    client.register_system_shared_memory("input_data", input_key, ROW.nbytes)
    asked = grpcclient.InferInput("logits", [1, 4], "FP32")
    asked.set_shared_memory("input_data", ROW.nbytes)
    wanted = [grpcclient.InferRequestedOutput("samples"), grpcclient.InferRequestedOutput("logprobs")]
    wanted[0].set_shared_memory("output_data", 20)
    wanted[1].set_shared_memory("output_data", 20, offset=20)
    result = client.infer("sampler", [asked], outputs=wanted, parameters=ASKED)
    told = result.get_output("samples")
    drawn = shm.get_contents_as_numpy(outputs, np.int32, told.shape)
    logprobs = shm.get_contents_as_numpy(outputs, np.float32, told.shape, offset=20)
    regions = sorted(client.get_system_shared_memory_status().regions)
    client.unregister_system_shared_memory()
    got = {"samples": drawn.tolist(), "logprobs": logprobs.tolist(), "regions": regions}
    shm.destroy_shared_memory_region(inputs)
    shm.destroy_shared_memory_region(outputs)
    return got


async def with_asyncio(address):
    """simple_grpc_aio_infer_client.py"""
    async with aioclient.InferenceServerClient(address) as client:
        replies = await asyncio.gather(
            *(client.infer("sampler", tensors(), parameters={**ASKED, "seed": 42 + number}) for number in range(4))
        )

        async def requests():
            yield {"model_name": "sampler", "inputs": tensors(), "parameters": ASKED}

        streamed = [samples(result) async for result, _ in client.stream_infer(requests())]
    return {"replies": [samples(reply) for reply in replies], "streamed": streamed}


def run(address, prefix):
    with grpcclient.InferenceServerClient(address) as client:
        return {
            "health": health_metadata(client),
            "control": model_control(client),
            "infer": samples(client.infer("sampler", tensors(), parameters=ASKED)),
            "async": asynchronous(client),
            "stream": stream(client),
            "shared_memory": shared_memory(client, prefix),
            "aio": asyncio.run(with_asyncio(address)),
        }


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:])))
