"""The model that Triton's Python backend runs: draws with torch, all requests that Triton batched at once."""

from __future__ import annotations

import numpy as np
import torch
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """What the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Set up."""
        del args
        torch.set_num_threads(1)

    def execute(self, requests: list[object]) -> list[object]:
        """Draw one id from each row."""
        rows = [pb_utils.get_input_tensor_by_name(request, "logits").as_numpy() for request in requests]
        temperatures = [pb_utils.get_input_tensor_by_name(request, "temperature").as_numpy() for request in requests]
        logits = torch.from_numpy(np.concatenate(rows))
        temperature = torch.from_numpy(np.concatenate(temperatures))
        drawn = torch.multinomial(torch.softmax(logits / temperature, -1), 1).to(torch.int32).numpy()
        answers, at = [], 0
        for row in rows:
            tensor = pb_utils.Tensor("id", np.ascontiguousarray(drawn[at : at + len(row)]))
            answers.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
            at += len(row)
        return answers
