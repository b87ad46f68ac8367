"""The sampler as a model: its name, its tensors, its statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplerd import __version__
from samplerd.oip import grpc_service_pb2 as oip
from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.errors import Code, NotFoundError
from samplerd_server.transport.oip.echo import shown
from samplerd_server.transport.oip.parameters import PARAMETERS

if TYPE_CHECKING:
    from samplerd_server.core.drawn import Drawn
    from samplerd_server.metrics.metrics import Metrics

__all__ = [
    "DTYPES",
    "INPUTS",
    "MODEL",
    "OUTPUTS",
    "ROWS",
    "VERSION",
    "check_model",
    "config",
    "is_model",
    "metadata",
    "server_metadata",
    "statistics",
]

MODEL, VERSION = "sampler", "1"
_PLATFORM = "samplerd"
DTYPES = {"FP32": pb.DTYPE_F32, "FP16": pb.DTYPE_F16, "BF16": pb.DTYPE_BF16, "FP64": pb.DTYPE_F64}
"""The datatypes of rows, and their dtypes in our contract."""
_SCALARS = {name: "FP64" if kind is float else "UINT32" for name, kind in PARAMETERS.items()}
_SCALARS |= {"seed": "UINT64", "num_samples": "UINT32", "draw_offset": "UINT64"}
ROWS = ("logits", "probabilities", "guidance")
"""The inputs that are rows; the last of them guides the others."""
INPUTS = {**dict.fromkeys(ROWS, "FP32"), **_SCALARS}
"""Inputs and the datatype that the metadata gives for each; others are accepted if the numbers fit."""
OUTPUTS = {"samples": "INT32", "logprobs": "FP32"}
_TYPES = {name.removeprefix("TYPE_"): number for name, number in oip.DataType.items()}
_NS = 1e9
_DRAWING = ("Sample", "SampleStream", "SampleDistribution", "ModelInfer", "ModelStreamInfer")


def is_model(name: str, version: str) -> bool:
    """Whether a request names our model."""
    return name == MODEL and version in {"", VERSION}


def check_model(name: str, version: str) -> None:
    """Check that a request names our model.

    Raises:
        NotFoundError: it names another model or version.

    """
    if name != MODEL:
        raise NotFoundError(f"Request for unknown model: {shown(name)} is not found; there is {MODEL}")
    if version not in {"", VERSION}:
        raise NotFoundError(
            f"Request for unknown model: version {shown(version)} of {MODEL} is not found; there is {VERSION}"
        )


def server_metadata(*, has_shared_memory: bool, has_cuda_memory: bool) -> oip.ServerMetadataResponse:
    """Describe the server, and the extensions of the protocol that it serves."""
    extensions = ["model_configuration", "statistics", "binary_tensor_data", "parameters", "schedule_policy"]
    if has_shared_memory:
        extensions.append("system_shared_memory")
    if has_cuda_memory:
        extensions.append("cuda_shared_memory")
    return oip.ServerMetadataResponse(name=_PLATFORM, version=__version__, extensions=extensions)


def metadata() -> oip.ModelMetadataResponse:
    """Describe the tensors that the model takes and gives."""
    tensor = oip.ModelMetadataResponse.TensorMetadata
    return oip.ModelMetadataResponse(
        name=MODEL,
        versions=[VERSION],
        platform=_PLATFORM,
        inputs=[
            tensor(name=name, datatype=kind, shape=[-1, -1 if name in ROWS else 1]) for name, kind in INPUTS.items()
        ],
        outputs=[tensor(name=name, datatype=kind, shape=[-1, -1]) for name, kind in OUTPUTS.items()],
    )


def config(max_rows: int) -> oip.ModelConfig:
    """Describe the tensors for Triton's clients: shapes without the rows, of which there may be `max_rows`."""
    return oip.ModelConfig(
        name=MODEL,
        platform=_PLATFORM,
        backend=_PLATFORM,
        max_batch_size=max_rows,
        input=[
            oip.ModelInput(
                name=name, data_type=_TYPES[kind], dims=[-1 if name in ROWS else 1], optional=name != "logits"
            )
            for name, kind in INPUTS.items()
        ],
        output=[oip.ModelOutput(name=name, data_type=_TYPES[kind], dims=[-1]) for name, kind in OUTPUTS.items()],
        dynamic_batching=oip.ModelDynamicBatching(),
    )


def statistics(metrics: Metrics, drawn: Drawn) -> oip.ModelStatistics:
    """Count the work since the start, of both protocols: the requests of these metrics, and what was drawn."""
    outcomes = [(code, metrics.requests.value(rpc, code.name)) for rpc in _DRAWING for code in Code]
    succeeded = int(sum(count for code, count in outcomes if code is Code.OK))
    failed = int(sum(count for code, count in outcomes if code is not Code.OK))
    seconds = sum(metrics.request_seconds.summary(rpc)[1] for rpc in _DRAWING)

    def duration(count: int, seconds: float) -> oip.StatisticDuration:
        return oip.StatisticDuration(count=count, ns=round(seconds * _NS))

    return oip.ModelStatistics(
        name=MODEL,
        version=VERSION,
        inference_count=drawn.rows,
        execution_count=drawn.batches,
        inference_stats=oip.InferStatistics(
            success=duration(succeeded, seconds),
            fail=duration(failed, 0.0),
            queue=duration(drawn.waits, drawn.wait_s),
            compute_input=duration(drawn.batches, 0.0),
            compute_infer=duration(drawn.batches, drawn.compute_s),
            compute_output=duration(drawn.batches, 0.0),
        ),
    )
