"""Call Triton with tritonclient, and write the body of such a call: gRPC's prefix and a ModelInferRequest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, service_pb2

if __name__ == "__main__":
    port, path, value, body, _ = sys.argv[1:]
    logits = np.fromfile(path, "<f4").reshape(1, -1)
    temperature = np.array([[value]], "<f4")
    message = service_pb2.ModelInferRequest(model_name="sampler")
    inputs = []
    for name, array in (("logits", logits), ("temperature", temperature)):
        message.inputs.add(name=name, datatype="FP32", shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
        inputs.append(InferInput(name, array.shape, "FP32"))
        inputs[-1].set_data_from_numpy(array)
    data = message.SerializeToString()
    Path(body).write_bytes(b"\0" + len(data).to_bytes(4, "big") + data)
    with InferenceServerClient(f"127.0.0.1:{port}") as client:
        result = client.infer("sampler", inputs)
    print(json.dumps({"id": int(result.as_numpy("id")[0, 0]), "reply_bytes": 5 + result.get_response().ByteSize()}))
