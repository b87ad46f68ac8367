"""What Triton's own client does with samplerd, in a process that has nothing of samplerd in it.

Prints one JSON object of what it got. Run with the address, and the prefix of shared memory.
"""

import json
import os
import queue
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

ROW = np.array([[1, 2, 0.5, 1.5]], np.float32)
ASKED = {"temperature": 0.7, "seed": 42, "num_samples": 5}


def tensor(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    own = triton.InferInput(name, list(array.shape), datatype)
    own.set_data_from_numpy(array)
    return own


def refusal(call) -> str:
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return ""


def run(client: triton.InferenceServerClient, prefix: str) -> dict:
    logits = [tensor("logits", ROW, "FP32")]
    plain = client.infer("sampler", logits, parameters=ASKED, request_id="one")
    half = client.infer("sampler", [tensor("logits", ROW.astype(np.float16), "FP16")], parameters=ASKED)
    columns = [
        tensor("logits", np.repeat(ROW, 3, 0), "FP32"),
        tensor("temperature", np.array([[0.0], [1.0], [0.7]], np.float32), "FP32"),
        tensor("seed", np.array([[1], [2], [42]], np.uint64), "UINT64"),
    ]
    only = [triton.InferRequestedOutput("samples")]
    each = client.infer("sampler", columns, outputs=only, parameters={"num_samples": 5})
    answered: queue.Queue = queue.Queue()
    client.async_infer("sampler", logits, lambda result, error: answered.put((result, error)), parameters=ASKED)
    later, error = answered.get(timeout=30)
    assert error is None, error
    return {
        "live": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("sampler")],
        "name": client.get_server_metadata().name,
        "inputs": [tensor.name for tensor in client.get_model_metadata("sampler").inputs],
        "max_batch_size": client.get_model_config("sampler").config.max_batch_size,
        "plain": plain.as_numpy("samples").tolist(),
        "logprobs": plain.as_numpy("logprobs").tolist(),
        "id": plain.get_response().id,
        "half": half.as_numpy("samples").tolist(),
        "each": each.as_numpy("samples").tolist(),
        "only": each.as_numpy("logprobs") is None,
        "async": later.as_numpy("samples").tolist(),
        "wrong": refusal(lambda: client.infer("sampler", logits, parameters={"top_p": 7.0})),
        "unknown": refusal(lambda: client.infer("sampler", logits, parameters={"nonsense": 1})),
        "model": refusal(lambda: client.infer("other", logits)),
        "sequence": refusal(lambda: client.infer("sampler", logits, sequence_id=1)),
        "stream": stream(client, logits),
        "shared": shared(client, prefix),
        "count": client.get_inference_statistics("sampler").model_stats[0].inference_count,
    }


def stream(client: triton.InferenceServerClient, logits: list) -> dict:
    answered: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: answered.put((result, error)))
    for number in range(8):
        own = {"top_p": 7.0} if number == 3 else ASKED
        client.async_stream_infer(
            "sampler", logits, request_id=str(number), parameters=own, enable_empty_final_response=True
        )
    results, errors = {}, []
    for _ in range(8):
        result, error = answered.get(timeout=30)
        if error is not None:
            errors.append(str(error))
            continue
        reply = result.get_response()
        assert reply.parameters["triton_final_response"].bool_param
        results[reply.id] = result.as_numpy("samples").tolist()
    client.stop_stream()
    return {"results": results, "errors": errors}


def shared(client: triton.InferenceServerClient, prefix: str) -> dict:
    path = Path("/dev/shm") / f"{prefix}triton-{os.getpid()}"
    path.write_bytes(ROW.tobytes() + bytes(20))
    try:
        client.register_system_shared_memory("own", path.name, 36)
        logits = triton.InferInput("logits", [1, 4], "FP32")
        logits.set_shared_memory("own", 16)
        samples = triton.InferRequestedOutput("samples")
        samples.set_shared_memory("own", 20, 16)
        client.infer("sampler", [logits], outputs=[samples], parameters=ASKED)
        listed = list(client.get_system_shared_memory_status().regions)
        logits.set_shared_memory("own", 16, 24)
        beyond = refusal(lambda: client.infer("sampler", [logits]))
        client.unregister_system_shared_memory("own")
        return {
            "samples": np.frombuffer(path.read_bytes()[16:], "<i4").tolist(),
            "listed": listed,
            "beyond": beyond,
            "gone": refusal(lambda: client.infer("sampler", [logits])),
        }
    finally:
        path.unlink()


if __name__ == "__main__":
    address, own_prefix = sys.argv[1:]
    with triton.InferenceServerClient(address) as own_client:
        print(json.dumps(run(own_client, own_prefix)))
