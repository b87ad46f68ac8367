"""The arrow ``SampleResult -> ModelInferResponse``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.core.request import RNG
from samplerd_server.transport.oip.model import MODEL, OUTPUTS, VERSION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samplerd_server.core.result import RowError, SampleResult
    from samplerd_server.transport.oip.regions import Regions
    from samplerd_server.transport.oip.translate import Inference

__all__ = ["reply_to"]

_FINAL = "triton_final_response"
_STORED = {"samples": "<i4", "logprobs": "<f4"}


def reply_to(
    inference: Inference, result: SampleResult, regions: Regions, *, is_final: bool = False
) -> oip.ModelInferResponse:
    """Answer a request: the outputs that were asked for, in that order, all as raw contents.

    `is_final` is for a stream: its reply says that it is the last one to its request.

    Raises:
        SamplerdError: an output cannot be written to the shared memory that the request names for it.

    """
    asked = inference.sample
    reply = oip.ModelInferResponse(model_name=MODEL, model_version=VERSION, id=inference.name)
    reply.parameters["rng"].string_param = RNG
    if asked.row_seeds is None:
        field = "int64_param" if asked.seed < 1 << 63 else "uint64_param"  # which not every client can read
        setattr(reply.parameters["seed"], field, asked.seed)
    if result.row_errors:
        reply.parameters["row_errors"].string_param = json.dumps([_row_error(error) for error in result.row_errors])
    if is_final:
        reply.parameters[_FINAL].bool_param = True
    shape = (asked.source.rows, asked.num_samples)
    for output in inference.outputs:
        data = _values(output.name, result).astype(_STORED[output.name], copy=False).tobytes()
        tensor = reply.outputs.add(name=output.name, datatype=OUTPUTS[output.name], shape=shape)
        if output.place is not None:
            regions.write(output.place, data, output.name)
            tensor.parameters["shared_memory_byte_size"].int64_param = len(data)
            data = b""  # an empty entry keeps the order of the others
        reply.raw_output_contents.append(data)
    return reply


def _values(name: str, result: SampleResult) -> NDArray[np.generic]:
    return result.samples if name == "samples" else result.logprobs[0].samples


def _row_error(error: RowError) -> dict[str, object]:
    return {"row": error.row, "reason": error.reason.name, "message": error.message}
